// The quick start with openapi-typescript and openapi-fetch.
import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

const client = createClient<paths>({ baseUrl: process.env.AGENTO_URL, headers: { "X-Api-Key": process.env.AGENTO_API_KEY } });

const created = await client.POST("/v1/agents", { body: { name: "By openapi-fetch", secrets: { anthropicApiKey: "sk-ant-placeholder" } } });
if (created.error) throw new Error(created.error.error.message);
const id = created.data.data.id;

const sent = await client.POST("/v1/agents/{id}/chat/messages", { params: { path: { id } }, body: { message: "Hello", peerId: "customer-42" }, parseAs: "stream" });
if (sent.error) throw new Error(sent.error.error.message);
let rest = "", answer = "", reason: string | undefined;
for await (const text of sent.data!.pipeThrough(new TextDecoderStream())) {
  const lines = (rest + text).split("\n");
  rest = lines.pop()!;
  for (const line of lines) {
    if (!line.startsWith("data: ")) continue;
    const event = JSON.parse(line.slice(6)) as components["schemas"]["ChatEvent"];
    if (event.type === "text") answer += event.content;
    if (event.type === "done") reason = event.stopReason;
    if (event.type === "error") throw new Error(event.message);
  }
}
const history = await client.GET("/v1/agents/{id}/chat/messages", { params: { path: { id }, query: { peerId: "customer-42" } } });
if (reason !== "end" || !answer.includes("Hello") || history.data?.data.length !== 2) throw new Error(`the answer is ${answer}, ended by ${reason}`);
const unknown = await client.GET("/v1/agents/{id}", { params: { path: { id: "none" } } });
if (unknown.error?.error.code !== "not_found") throw new Error("an unknown agent is not refused");
console.log("openapi-fetch:", answer);
