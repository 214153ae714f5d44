// Buttons that copy, and say so.

/** `text` is asked when the button is pressed. */
export function setUpCopy(button, text) {
  const label = button.querySelector(".label") ?? button;
  const words = label.textContent;
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text());
      label.textContent = "Copied";
    } catch {
      label.textContent = "Copying is not allowed";
    }
    setTimeout(() => (label.textContent = words), 1600);
  });
  return button;
}
