// A chat backend for a website: the page posts {"message"} to /chat and reads the answer as it comes.
import { createServer } from "node:http";
import { json } from "node:stream/consumers";
import { Agento } from "../clients/typescript/src/index.ts";

const { AGENTO_URL = "", AGENTO_API_KEY = "", AGENTO_AGENT = "", SESSION = "", PORT = "8081" } = process.env;
const agento = new Agento({ url: AGENTO_URL, apiKey: AGENTO_API_KEY }); // a key with the scope chat alone
const signedIn = new Map([[SESSION, "customer-42"]]); // in place of your sign-in: who each session cookie belongs to

const server = createServer(async (request, response) => {
	const session = /(?:^|; *)session=([^;]+)/.exec(request.headers.cookie ?? "")?.[1];
	const peerId = session && signedIn.get(session); // never from the page, where a visitor could name somebody else
	if (!peerId) return void response.writeHead(401).end();
	// A form of another site can send the cookie, but not this type.
	if (request.url !== "/chat" || request.headers["content-type"] !== "application/json") return void response.writeHead(400).end();
	const left = new AbortController();
	response.on("close", () => left.abort());
	try {
		const { message } = (await json(request)) as { message: string };
		for await (const event of agento.chat(AGENTO_AGENT, { message, peerId, onDisconnect: "cancel" }, { signal: left.signal })) {
			if (event.type === "text") response.write(event.content);
			if (event.type === "error") throw new Error(event.message);
		}
		response.end();
	} catch (error) {
		if (!left.signal.aborted) console.error(error);
		response.headersSent ? response.destroy() : response.writeHead(502).end(); // half an answer must not look whole
	}
});
server.listen(Number(PORT), "127.0.0.1", () => console.log("listening on", server.address()));
