// The pages work without this file. It adds buttons that need a script, and moves the focus to what went wrong.
"use strict";

// add puts a button beside an element; the words come with the page.
function add(element, text, action) {
	const button = document.createElement("button");
	button.type = "button";
	button.className = "quiet";
	button.textContent = text;
	button.addEventListener("click", () => action(button));
	element.parentNode.append(button, " ");
}

for (const input of document.querySelectorAll("[data-show]")) {
	add(input, input.dataset.show, (button) => {
		const show = input.type === "password";
		input.type = show ? "text" : "password";
		button.textContent = show ? input.dataset.hide : input.dataset.show;
		input.focus();
	});
	// A password that is shown is not one that is remembered as text.
	input.form.addEventListener("submit", () => { input.type = "password"; });
}

for (const element of document.querySelectorAll("[data-copy]")) {
	if (!navigator.clipboard) continue;
	add(element, element.dataset.copy, async (button) => {
		await navigator.clipboard.writeText(element.textContent.trim());
		button.textContent = element.dataset.done;
		setTimeout(() => { button.textContent = element.dataset.copy; }, 2000);
	});
}

for (const element of document.querySelectorAll("[data-download]")) {
	add(element, element.dataset.download, () => {
		const text = location.host + "\n\n" + element.textContent.trim() + "\n";
		const link = document.createElement("a");
		link.href = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
		link.download = element.dataset.file;
		link.click();
		URL.revokeObjectURL(link.href);
	});
}

for (const element of document.querySelectorAll("[data-print]")) {
	add(element, element.dataset.print, () => { window.print(); });
}

// A second press would send a form that the first has used up, and hide its answer.
for (const form of document.forms) {
	form.addEventListener("submit", (event) => {
		if (form.dataset.sent) {
			event.preventDefault();
			return;
		}
		form.dataset.sent = "yes";
		setTimeout(() => { delete form.dataset.sent; }, 3000); // it may have been stopped
	});
}

document.getElementById("error")?.focus();
