// The pages work without this file. It adds buttons that need a script, and moves the focus to what went wrong.
"use strict";

for (const button of document.querySelectorAll("[data-show]")) {
	const input = document.getElementById(button.dataset.show);
	const texts = [button.textContent, button.dataset.hideText];
	button.hidden = false;
	button.addEventListener("click", () => {
		const show = input.type === "password";
		input.type = show ? "text" : "password";
		button.textContent = texts[show ? 1 : 0];
		input.focus();
	});
	// A password that is shown is not one that is remembered as text.
	input.form.addEventListener("submit", () => { input.type = "password"; });
}

for (const button of document.querySelectorAll("[data-copy]")) {
	if (!navigator.clipboard) continue;
	button.hidden = false;
	button.addEventListener("click", async () => {
		await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent.trim());
		const before = button.textContent;
		button.textContent = button.dataset.done;
		setTimeout(() => { button.textContent = before; }, 2000);
	});
}

for (const button of document.querySelectorAll("[data-download]")) {
	button.addEventListener("click", () => {
		const text = location.host + "\n\n" + document.getElementById(button.dataset.download).textContent.trim() + "\n";
		const link = document.createElement("a");
		link.href = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
		link.download = button.dataset.name;
		link.click();
		URL.revokeObjectURL(link.href);
	});
}

for (const button of document.querySelectorAll("[data-print]")) {
	button.addEventListener("click", () => { window.print(); });
}

for (const group of document.querySelectorAll("[data-buttons]")) group.hidden = false;

document.getElementById("error")?.focus();
