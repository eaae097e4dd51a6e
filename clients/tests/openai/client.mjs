// Asks an agent through one of the clients of OpenAI's API. The arguments are the client and what
// to do, as JSON; the result is JSON on standard output.
//
//   node client.mjs openai-7 '{"messages":[{"role":"user","content":"hi"}],"stream":true}'
//
// The server is OPENAI_BASE_URL and the key OPENAI_API_KEY. Fields of a request: model, messages,
// stream, helper (read the stream with the client's strict helper), conversation (a name), timeout (of
// an attempt, in ms), retries (of the client), again (ask once more after an error, as a program would).
const [client, argument] = process.argv.slice(2);
const { model, messages, stream = false, helper = false, again = false, conversation, timeout = 60000, retries = 2 } = JSON.parse(argument);
const baseURL = process.env.OPENAI_BASE_URL;
const apiKey = process.env.OPENAI_API_KEY;
const headers = conversation ? { 'X-Agento-Conversation': conversation } : {};

const clients = {
  'openai-6': openai,
  'openai-7': openai,
  ai: vercel,
  langchain,
};

// openai uses the official package, whose two major versions have the same calls.
async function openai() {
  const { default: OpenAI } = await import(client);
  const api = new OpenAI({ baseURL, apiKey, defaultHeaders: headers, timeout, maxRetries: retries });
  const models = (await api.models.list()).data.map((m) => m.id);
  const body = { model, messages, stream };
  if (!stream) {
    const whole = await api.chat.completions.create(body);
    const choice = whole.choices[0];
    return { text: choice.message.content, finish: choice.finish_reason, tokens: whole.usage.total_tokens, models };
  }
  if (helper) { // which checks every chunk
    const whole = await api.chat.completions.stream({ ...body, stream_options: { include_usage: true } }).finalChatCompletion();
    return { text: whole.choices[0].message.content, finish: whole.choices[0].finish_reason, tokens: whole.usage.total_tokens, models };
  }
  const chunks = await api.chat.completions.create({ ...body, stream_options: { include_usage: true } });
  let text = '', finish = null, tokens = null;
  for await (const chunk of chunks) {
    text += chunk.choices[0]?.delta?.content ?? '';
    finish = chunk.choices[0]?.finish_reason ?? finish;
    tokens = chunk.usage?.total_tokens ?? tokens;
  }
  return { text, finish, tokens, models };
}

// vercel uses the AI SDK.
async function vercel() {
  const { generateText, streamText } = await import('ai');
  const { createOpenAICompatible } = await import('@ai-sdk/openai-compatible');
  const provider = createOpenAICompatible({ name: 'agento', baseURL, apiKey, headers, includeUsage: true });
  const call = { model: provider(model), messages, maxRetries: retries };
  if (!stream) {
    const whole = await generateText(call);
    return { text: whole.text, finish: whole.finishReason, tokens: whole.usage.totalTokens };
  }
  let failed = null;
  const result = streamText({ ...call, onError: ({ error }) => (failed = error) });
  let text = '';
  for await (const piece of result.textStream) text += piece;
  if (failed) throw failed;
  return { text, finish: await result.finishReason, tokens: (await result.usage).totalTokens };
}

async function langchain() {
  const { ChatOpenAI } = await import('@langchain/openai');
  const chat = new ChatOpenAI({ model, apiKey, timeout, maxRetries: retries, streamUsage: true, configuration: { baseURL, defaultHeaders: headers } });
  if (!stream) {
    const whole = await chat.invoke(messages);
    return { text: whole.content, finish: whole.response_metadata.finish_reason, tokens: whole.usage_metadata?.total_tokens };
  }
  let text = '', finish = null, tokens = null;
  for await (const chunk of await chat.stream(messages)) {
    text += chunk.content;
    finish = chunk.response_metadata?.finish_reason ?? finish;
    tokens = chunk.usage_metadata?.total_tokens ?? tokens;
  }
  return { text, finish, tokens };
}

function failure(error) {
  return { error: String(error?.message ?? error), status: error?.status ?? error?.statusCode ?? error?.lastError?.statusCode ?? 0 };
}

let result = await clients[client]().catch(failure);
if (again && result.error) result = { ...(await clients[client]().catch(failure)), first: result.error };
console.log(JSON.stringify(result));
