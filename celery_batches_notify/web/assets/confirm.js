// An action is sent once, however often somebody clicks until its answer comes.
let sent = false;
document.querySelector("form").addEventListener("submit", (event) => {
  if (sent) event.preventDefault();
  sent = true;
});
addEventListener("pageshow", () => { sent = false; });  // you came back to the form
