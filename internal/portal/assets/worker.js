// Shows that there is a sign-in to look at. It answers no request, keeps nothing, and learns no secret: what is asked stands on the page alone.
"use strict";

self.addEventListener("push", (event) => {
	let notice = {};
	try {
		notice = event.data.json();
	} catch {
		// Something must be shown for every message.
	}
	event.waitUntil(self.registration.showNotification(String(notice.title ?? "Sign-in"), {
		body: String(notice.body ?? ""), lang: String(notice.lang ?? ""), dir: notice.dir === "rtl" ? "rtl" : "auto", icon: "icon.svg", tag: "sign-in", renotify: true, requireInteraction: true,
	}));
});

self.addEventListener("notificationclick", (event) => {
	event.notification.close();
	event.waitUntil((async () => {
		for (const open of await self.clients.matchAll({ type: "window" })) {
			if (open.url.startsWith(self.registration.scope)) return open.focus();
		}
		return self.clients.openWindow(self.registration.scope);
	})());
});
