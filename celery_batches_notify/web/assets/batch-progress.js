// <batch-progress src="https://…/batches/s/….json"></batch-progress>: how far a shared batch is, on your own page.
customElements.define("batch-progress", class extends HTMLElement {
  static observedAttributes = ["src"];
  connectedCallback() {
    this.bar = document.createElement("progress");
    this.bar.setAttribute("aria-label", this.getAttribute("label") || "Progress");
    this.words = document.createElement("span");
    this.words.setAttribute("role", "status");
    this.replaceChildren(this.bar, " ", this.words);
    this.begin();
  }
  disconnectedCallback() { clearTimeout(this.timer); this.run = null; }
  attributeChangedCallback() { if (this.isConnected && this.bar) this.begin(); }
  begin() {
    clearTimeout(this.timer);
    this.run = {};
    if (this.getAttribute("src")) this.ask(2000, this.run);
  }
  async ask(wait, run) {
    let shared = null, status = 0;
    try {
      const answer = await fetch(this.getAttribute("src"), { cache: "no-store" });
      status = answer.status;
      if (answer.ok) shared = await answer.json();
    } catch { /* asked again below */ }
    if (run !== this.run) return;  // it was moved, taken away, or given another link meanwhile
    if (status === 404) { this.words.textContent = "This link is not valid any more."; return; }
    if (shared) { this.bar.value = shared.progress; this.words.textContent = shared.sentence; }
    this.dispatchEvent(new CustomEvent("progress", { detail: shared }));
    const next = shared ? 2000 : Math.min(wait * 2, 30000);
    if (!shared?.finished) this.timer = setTimeout(() => this.ask(next, run), next);
  }
});
