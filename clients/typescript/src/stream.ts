import type { components } from "./openapi.ts";

/** One event of an answer. The last one is `done` or `error`. */
export type ChatEvent = {
	/** The turn that the event belongs to. */
	turnId: string;
	/** The number of the event: followTurn goes on after it. */
	id: number;
} & (
	| { type: "text"; content: string }
	| { type: "done"; stopReason: string; sessionId: string; usage?: components["schemas"]["ChatUsage"] }
	| { type: "error"; code: string; message: string; stopReason?: string; usage?: components["schemas"]["ChatUsage"] }
);

/** An event of a stream: its id, which may be empty, and its data. */
export interface Line {
	id: string;
	data: string;
}

/** Yields the events of a stream as they arrive. It skips comments; alive is called for those, too. */
export async function* readEvents(body: ReadableStream<Uint8Array>, alive: () => void): AsyncGenerator<Line, void, undefined> {
	const reader = body.getReader();
	const decoder = new TextDecoder();
	let rest = "";
	let id = "";
	try {
		for (;;) {
			const { done, value } = await reader.read();
			if (done) {
				return; // a line without its end is incomplete
			}
			alive();
			rest += decoder.decode(value, { stream: true });
			const lines = rest.split("\n");
			rest = lines.pop() ?? "";
			for (const line of lines) {
				const [, field, text] = /^(id|data): ?(.*?)\r?$/.exec(line) ?? [];
				if (field === "id") {
					id = text ?? "";
				} else if (field === "data") {
					yield { id, data: text ?? "" };
					id = "";
				}
			}
		}
	} finally {
		await reader.cancel().catch(() => undefined); // also when the caller wants no more
	}
}
