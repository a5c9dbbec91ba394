// <batch-progress src="https://…/batches/s/….json"></batch-progress>: how far a shared batch is, on your own page.
customElements.define("batch-progress", class extends HTMLElement {
  connectedCallback() {
    this.bar = document.createElement("progress");
    this.bar.setAttribute("aria-label", this.getAttribute("label") || "Progress");
    this.words = document.createElement("span");
    this.words.setAttribute("role", "status");
    this.replaceChildren(this.bar, " ", this.words);
    this.ask(2000);
  }
  disconnectedCallback() { clearTimeout(this.timer); }
  async ask(wait) {
    let shared = null;
    try {
      const answer = await fetch(this.getAttribute("src"), { cache: "no-store" });
      if (answer.status === 404) { this.words.textContent = "This link is not valid any more."; return; }
      if (answer.ok) shared = await answer.json();
    } catch { /* asked again below */ }
    if (shared) { this.bar.value = shared.progress; this.words.textContent = shared.sentence; }
    this.dispatchEvent(new CustomEvent("progress", { detail: shared }));
    const next = shared ? 2000 : Math.min(wait * 2, 30000);
    if (!shared?.finished && this.isConnected) this.timer = setTimeout(() => this.ask(next), next);
  }
});
