/**
 * The client of the agento API for Node, Deno and edge runtimes. It needs nothing but `fetch`.
 * @module
 */
export { Agento, type Call, type ChatOptions, type Options } from "./client.ts";
export { AgentoError } from "./error.ts";
export type { ChatEvent } from "./stream.ts";
export type { Body, Method, Params, PathWith, Query, Result, Row } from "./types.ts";
export type { components, paths } from "./openapi.ts";
