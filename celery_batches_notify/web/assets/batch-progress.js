// <batch-progress src="https://…/batches/s/….json"></batch-progress>: how far a shared batch is, on your own page.
class BatchProgress extends HTMLElement {
  connectedCallback() {
    this.bar = document.createElement("progress");
    this.words = document.createElement("span");
    this.bar.max = 1;
    this.bar.setAttribute("aria-label", this.getAttribute("label") || "Progress");
    this.words.setAttribute("role", "status");
    this.replaceChildren(this.bar, " ", this.words);
    this.wait = 2000;
    this.ask();
  }
  disconnectedCallback() { clearTimeout(this.timer); }
  async ask() {
    let shared = null;
    try {
      const answer = await fetch(this.getAttribute("src"), { cache: "no-store" });
      if (answer.ok) shared = await answer.json();
      else if (answer.status === 404) { this.words.textContent = "This link is not valid any more."; return; }
    } catch { /* asked again below */ }
    if (shared) { this.bar.value = shared.progress; this.words.textContent = shared.sentence; }
    this.dispatchEvent(new CustomEvent("progress", { detail: shared }));
    this.wait = shared ? 2000 : Math.min(this.wait * 2, 30000);
    if (!shared?.finished && this.isConnected) this.timer = setTimeout(() => this.ask(), this.wait);
  }
}
customElements.define("batch-progress", BatchProgress);
