// ogen 1.24 makes code that does not compile for a stream beside other responses. Of the
// operations that answer with a stream of JSON, this leaves the stream alone: their errors
// are then those of an unexpected status.
import { readFile, writeFile } from "node:fs/promises";

const document = JSON.parse(await readFile("../openapi.json", "utf8"));
for (const path of Object.values(document.paths)) {
  for (const operation of Object.values(path)) {
    if (operation.responses["200"]?.content?.["text/event-stream"]?.schema.$ref) operation.responses = { 200: operation.responses["200"] };
  }
}
await writeFile("openapi.json", JSON.stringify(document));
