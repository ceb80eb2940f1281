// Sends a text message and makes a call with Twilio's own client, and writes the TwiML that its own builder makes.
"use strict";

const twilio = require("twilio");
const { URL_OF_GATEWAY, SID, TOKEN, TO, FROM, BODY, TEXT, LANGUAGE } = process.env;

async function main() {
	const client = twilio(SID, TOKEN);
	client.api.baseUrl = URL_OF_GATEWAY;
	const response = new twilio.twiml.VoiceResponse();
	response.pause({ length: 1 });
	response.say({ language: LANGUAGE }, TEXT);
	const message = await client.messages.create({ to: TO, from: FROM, body: BODY });
	const call = await client.calls.create({ to: TO, from: FROM, twiml: response.toString() });
	const refused = await client.messages.create({ to: "0612345678", from: FROM, body: BODY }).then(() => null, (err) => err);
	console.log(JSON.stringify({ message: message.sid, body: message.body, call: call.sid, code: refused && refused.code, status: refused && refused.status }));
}

main().catch((err) => {
	console.error(err);
	process.exit(1);
});
