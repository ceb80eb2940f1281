// Approval on a phone: the page that waits for it, and the page of the phone itself.
"use strict";

const pause = (ms) => new Promise((done) => { setTimeout(done, ms); });

// A page that waits goes on by itself when the phone has answered.
async function wait(form) {
	const began = form.dataset.state;
	for (;;) {
		await pause(1500);
		let state;
		try {
			const answer = await fetch(form.dataset.wait, { headers: { Accept: "application/json" } });
			if (!answer.ok) continue;
			({ state } = await answer.json());
		} catch {
			continue; // the network may come back
		}
		if (state === began) continue;
		if (state === "paired") {
			location.reload();
		} else {
			form.submit();
		}
		return;
	}
}
for (const form of document.querySelectorAll("[data-wait]")) wait(form);

// What follows is the page of the phone.
const phone = document.getElementById("phone");

const base = location.pathname;
const late = phone ? Date.now() - Number(phone.dataset.now) : 0; // of the phone's clock
const now = () => Math.floor((Date.now() - late) / 1000);
const encode = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer)));
const url = (buffer) => encode(buffer).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
const decode = (text) => Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));

// say shows the one of several texts that fits.
function say(within, what) {
	for (const element of within.querySelectorAll("[data-says]")) element.hidden = element.dataset.says !== what;
}

// asked opens the place where keys are kept. They can be used there, and not be read.
function asked(request) {
	return new Promise((done, failed) => {
		request.onsuccess = () => done(request.result);
		request.onerror = () => failed(request.error);
	});
}

async function keys(mode, use) {
	const opening = indexedDB.open("caddy-mfa-push", 1);
	opening.onupgradeneeded = () => { opening.result.createObjectStore("phones", { keyPath: "id", autoIncrement: true }); };
	const db = await asked(opening);
	try {
		return await asked(use(db.transaction("phones", mode).objectStore("phones")));
	} finally {
		db.close();
	}
}

const load = () => keys("readonly", (store) => store.getAll());
const save = (entry) => keys("readwrite", (store) => store.put(entry));
const forget = (entry) => keys("readwrite", (store) => store.delete(entry.id));

async function sign(key, kind, ...parts) {
	const statement = ["caddy-mfa push 1", kind, location.origin, ...parts].join("\n");
	return encode(await crypto.subtle.sign({ name: "ECDSA", hash: "SHA-256" }, key, new TextEncoder().encode(statement)));
}

async function post(what, body) {
	const answer = await fetch(base + what, {
		method: "POST", credentials: "omit", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
	});
	if (!answer.ok) throw new Error(String(answer.status));
	return answer.json();
}

const digits = (text) => text.normalize("NFKC").replaceAll(/[^0-9]/g, "");

// pair connects this browser to the account whose page has shown the code.
async function pair(link) {
	const pair = await crypto.subtle.generateKey({ name: "ECDSA", namedCurve: "P-256" }, false, ["sign"]);
	const answer = await post("pair", {
		link, key: encode(await crypto.subtle.exportKey("raw", pair.publicKey)), signature: await sign(pair.privateKey, "pair", link),
	});
	if (answer.state === "paired") {
		await save({ key: pair.privateKey, handle: answer.handle, user: answer.user, host: answer.host, link, added: Date.now() });
	}
	return answer.state;
}

async function confirm(entry, number) {
	const { state } = await post("confirm", { link: entry.link, number, signature: await sign(entry.key, "confirm", entry.link, number) });
	if (state === "confirmed") {
		delete entry.link;
		await save(entry);
	} else {
		await forget(entry);
	}
	return state;
}

// show puts what is asked on the page, and leaves what stands there already alone: somebody may be typing.
function show(entry, prompts) {
	const list = document.getElementById("prompts");
	for (const card of list.querySelectorAll("[data-entry]")) {
		if (card.dataset.entry === String(entry.id) && card.dataset.prompt && !prompts.some((p) => p.id === card.dataset.prompt)) card.remove();
	}
	const regions = new Intl.DisplayNames([document.documentElement.lang], { type: "region" });
	for (const prompt of prompts) {
		if (list.querySelector(`[data-prompt="${CSS.escape(prompt.id)}"]`)) continue;
		const card = document.getElementById("prompt").content.cloneNode(true).firstElementChild;
		card.dataset.entry = entry.id;
		card.dataset.prompt = prompt.id;
		let country = "";
		try {
			country = prompt.country && regions.of(prompt.country);
		} catch {
			country = prompt.country;
		}
		const fill = { user: entry.user, application: prompt.application, browser: prompt.browser, place: [country, prompt.address].filter(Boolean).join(" · ") };
		for (const [name, text] of Object.entries(fill)) {
			for (const element of card.querySelectorAll(`[data-fill="${name}"]`)) element.textContent = text;
		}
		const input = card.querySelector("input");
		input.id = `number-${prompt.id}`;
		card.querySelector("label").htmlFor = input.id;
		const answer = async (decision) => {
			const number = decision === "approve" ? digits(input.value) : "";
			if (decision === "approve" && number.length !== 2) {
				input.focus();
				return;
			}
			const buttons = card.querySelectorAll("button");
			for (const button of buttons) button.disabled = true;
			let state;
			try {
				({ state } = await post("answer", {
					handle: entry.handle, prompt: prompt.id, decision, number,
					signature: await sign(entry.key, "answer", prompt.id.split(".")[1], decision, number),
				}));
			} catch {
				for (const button of buttons) button.disabled = false;
				say(card, "failed");
				return;
			}
			delete card.dataset.prompt;
			card.querySelector("form").remove();
			say(card, state);
			setTimeout(() => card.remove(), 30000);
		};
		card.querySelector("form").addEventListener("submit", (event) => {
			event.preventDefault();
			answer("approve");
		});
		card.querySelector("[data-deny]").addEventListener("click", () => answer("deny"));
		for (const answered of list.querySelectorAll("[data-entry]:not([data-prompt])")) answered.remove();
		list.prepend(card);
		input.focus();
	}
}

// poll asks for each account whether somebody signs in.
async function poll() {
	let connected = false;
	for (const entry of await load()) {
		if (entry.link) continue;
		try {
			const at = now();
			const answer = await post("poll", { handle: entry.handle, at, signature: await sign(entry.key, "poll", String(at)) });
			if (answer.state === "connected") {
				connected = true;
				if (answer.handle) await save({ ...entry, handle: answer.handle });
				show(entry, answer.prompts);
			} else if (Date.now() - entry.added > 900000) {
				await forget(entry); // removed on the account page
			} else {
				connected = true; // the other page has yet to finish
			}
		} catch {
			connected = true; // the network may come back
		}
	}
	return connected;
}

// notify has the browser show a notification when there is something to see.
async function notify() {
	const worker = await navigator.serviceWorker.register(base + "worker.js", { scope: base });
	const sender = phone.dataset.key;
	let subscription = await worker.pushManager.getSubscription();
	if (subscription && url(subscription.options.applicationServerKey) !== sender) {
		await subscription.unsubscribe();
		subscription = null;
	}
	while (!worker.active) await pause(100);
	subscription ??= await worker.pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: decode(sender) });
	const { endpoint, keys: { p256dh, auth } } = subscription.toJSON();
	for (const entry of await load()) {
		const at = now();
		await post("subscribe", {
			handle: entry.handle, at, subscription: { endpoint, p256dh, auth, sender }, signature: await sign(entry.key, "subscribe", String(at), endpoint),
		});
	}
}

// offer shows the button that asks for the permission, or uses what was permitted before.
async function offer() {
	const part = document.getElementById("notifications");
	if (!phone.dataset.key || !("serviceWorker" in navigator) || !window.PushManager || !window.Notification) return;
	part.hidden = false;
	const button = part.querySelector("button");
	const turnOn = async () => {
		button.disabled = true;
		try {
			await notify();
			button.hidden = true;
			say(part, "on");
		} catch {
			say(part, Notification.permission === "denied" ? "denied" : "failed");
			button.disabled = false;
		}
	};
	button.addEventListener("click", turnOn);
	if (Notification.permission === "granted") await turnOn();
}

async function start() {
	const link = location.hash.slice(1);
	history.replaceState(null, "", base); // it is to be used once, and seen by nobody
	const step = (what) => say(document.getElementById("steps"), what);
	const watch = async () => {
		offer();
		for (;;) {
			if (document.visibilityState === "visible") {
				const connected = await poll();
				if (phone.querySelector("[data-prompt]")) step("");
				else step(connected ? "connected" : "none");
			}
			await pause(2000);
		}
	};
	const ask = (entry) => {
		for (const element of phone.querySelectorAll("[data-fill=account]")) element.textContent = `${entry.user} · ${entry.host}`;
		step("confirm");
		const form = document.getElementById("confirm");
		const input = form.querySelector("input");
		input.focus();
		form.addEventListener("submit", async (event) => {
			event.preventDefault();
			const number = digits(input.value);
			const button = form.querySelector("button");
			if (number.length !== 2) {
				input.focus();
				return;
			}
			button.disabled = true;
			try {
				const state = await confirm(entry, number);
				if (state === "confirmed") {
					step("connected");
					watch();
				} else {
					step(state === "wrong" ? "mistyped" : "expired");
				}
			} catch {
				say(form, "failed");
				button.disabled = false;
			}
		});
	};
	const begun = (await load()).filter((entry) => entry.link);
	for (const entry of begun) {
		if (link || Date.now() - entry.added > 600000) await forget(entry);
	}
	if (link) {
		step("pair");
		const button = document.getElementById("pair");
		button.addEventListener("click", async () => {
			button.disabled = true;
			try {
				if (await pair(link) !== "paired") {
					step("expired");
					return;
				}
				ask((await load()).find((entry) => entry.link === link));
			} catch {
				say(phone.querySelector("[data-says=pair]"), "failed");
				phone.querySelector("[data-says=pair]").hidden = false;
				button.disabled = false;
			}
		});
	} else if (begun.length && Date.now() - begun[0].added <= 600000) {
		ask(begun[0]);
	} else {
		await watch();
	}
}

if (phone) {
	if (window.isSecureContext && window.indexedDB && window.crypto?.subtle) {
		start();
	} else {
		say(document.getElementById("steps"), "missing");
	}
}
