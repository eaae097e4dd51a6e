// The quick start with the client of hey-api, whose streams are iterators of events.
import { client } from "./hey/client.gen.js";
import { createAgent, getAgent, listMessages, sendMessage } from "./hey/sdk.gen.js";

client.setConfig({ baseUrl: process.env.AGENTO_URL, auth: () => process.env.AGENTO_API_KEY });

const created = await createAgent({ body: { name: "By hey-api", secrets: { anthropicApiKey: "sk-ant-placeholder" } } });
if (created.error) throw new Error(created.error.error.message);
const id = created.data.data.id;

let answer = "", reason: string | undefined;
const { stream } = await sendMessage({ path: { id }, body: { message: "Hello", peerId: "customer-42" } });
for await (const event of stream) {
  if (event.type === "text") answer += event.content;
  if (event.type === "done") reason = event.stopReason;
  if (event.type === "error") throw new Error(event.message);
  if (event.type === "done") break;
}
const history = await listMessages({ path: { id }, query: { peerId: "customer-42" } });
if (reason !== "end" || !answer.includes("Hello") || history.data?.data.length !== 2) throw new Error(`the answer is ${answer}, ended by ${reason}`);
const unknown = await getAgent({ path: { id: "none" } });
if (unknown.error?.error.code !== "not_found") throw new Error("an unknown agent is not refused");
console.log("hey-api:", answer);
process.exit(0); // hey-api would open the stream again
