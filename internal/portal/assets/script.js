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

// WebAuthn speaks in bytes, and pages in base64url.
const bytes = (text) => Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
const text = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");

// read gives options as the browser takes them.
function read(json) {
	const options = JSON.parse(json);
	options.challenge = bytes(options.challenge);
	if (options.user) options.user.id = bytes(options.user.id);
	for (const list of [options.allowCredentials, options.excludeCredentials]) {
		for (const credential of list ?? []) credential.id = bytes(credential.id);
	}
	return options;
}

// write gives what the browser answers as the server takes it.
function write(credential) {
	const response = {};
	for (const name of ["clientDataJSON", "attestationObject", "authenticatorData", "signature", "userHandle"]) {
		if (credential.response[name]) response[name] = text(credential.response[name]);
	}
	if (credential.response.getTransports) response.transports = credential.response.getTransports();
	return JSON.stringify({
		id: credential.id, rawId: text(credential.rawId), type: credential.type, response,
		authenticatorAttachment: credential.authenticatorAttachment ?? undefined, clientExtensionResults: credential.getClientExtensionResults(),
	});
}

// furnish adds button and message to a form that nobody should see without a script, also in browsers that show what is hidden.
function furnish(form) {
	const message = document.createElement("p");
	message.className = "warning";
	message.dataset.says = "failed";
	message.setAttribute("role", "alert");
	message.hidden = true;
	message.textContent = form.dataset.failed;
	const button = document.createElement("button");
	button.type = "button";
	button.textContent = form.dataset.button;
	form.append(message, button);
}

for (const form of document.querySelectorAll("[data-passkey]")) {
	if (form.dataset.button && window.PublicKeyCredential) furnish(form);
	const button = form.querySelector("button");
	const kind = form.dataset.passkey;
	const say = (what) => {
		for (const element of form.querySelectorAll("[data-says]")) element.hidden = element.dataset.says !== what;
	};
	if (!window.PublicKeyCredential) {
		say("missing");
		continue;
	}
	const ask = async (more) => {
		const options = { publicKey: read(form.dataset.options), ...more };
		form.elements.code.value = write(await (kind === "create" ? navigator.credentials.create(options) : navigator.credentials.get(options)));
		form.submit();
	};
	// wait has the browser offer passkeys in the list below the field of the user name. There can be one request at a time.
	let waiting = null;
	const wait = async () => {
		if (kind !== "discover" || !await PublicKeyCredential.isConditionalMediationAvailable?.()) return;
		waiting = new AbortController();
		ask({ mediation: "conditional", signal: waiting.signal }).catch(() => {});
	};
	const start = async () => {
		waiting?.abort();
		button.disabled = true;
		say("");
		try {
			await ask();
		} catch (error) {
			// InvalidStateError: the authenticator holds one already. Everything else looks alike, so that pages learn nothing.
			say(error.name === "InvalidStateError" ? "known" : "failed");
			button.disabled = false;
			button.focus();
			wait();
		}
	};
	button.hidden = false;
	button.addEventListener("click", start);
	// The press on the page before has led here, and asked for it.
	if (kind === "get") start();
	wait();
}

// The browser forgets passkeys that are gone, where it can.
for (const [what, signal] of [["unknown", "signalUnknownCredential"], ["accepted", "signalAllAcceptedCredentials"]]) {
	for (const element of document.querySelectorAll(`[data-${what}]`)) {
		window.PublicKeyCredential?.[signal]?.(JSON.parse(element.dataset[what])).catch(() => {});
	}
}

// A code in a text message is filled in where the browser reads it, which asks the person first (WebOTP). It is sent as well, unless there is
// something else to choose beside it.
for (const input of document.querySelectorAll("[data-otp]")) {
	if (!window.OTPCredential) continue;
	const { form } = input;
	const waiting = new AbortController();
	form.addEventListener("submit", () => { waiting.abort(); });
	navigator.credentials.get({ otp: { transport: ["sms"] }, signal: waiting.signal }).then((otp) => {
		const button = form.querySelector("button.primary");
		input.value = otp.code;
		if (form.querySelector("input[type=checkbox]")) {
			button.focus();
		} else {
			form.requestSubmit(button);
		}
	}).catch(() => {}); // refused, or typed after all
}

// Says with a form that this device can keep a passkey.
for (const input of document.querySelectorAll("[data-can]")) {
	window.PublicKeyCredential?.isUserVerifyingPlatformAuthenticatorAvailable().then((can) => { input.value = can ? "yes" : ""; });
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
