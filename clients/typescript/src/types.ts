import type { paths } from "./openapi.ts";

export type Method = "get" | "post" | "put" | "patch" | "delete";

/** The paths that have a route with a method. */
export type PathWith<M extends Method> = {
	[P in keyof paths]: paths[P] extends Record<M, object> ? P : never;
}[keyof paths];

type Operation<P extends keyof paths, M extends Method> = paths[P] extends Record<M, infer O> ? O : never;

type Parameters<P extends keyof paths, M extends Method> = Operation<P, M> extends { parameters: infer T } ? T : never;

/** The values for the braces of a path. */
export type Params<P extends keyof paths, M extends Method> = Parameters<P, M> extends { path: infer T } ? T : undefined;

/** The parameters of the query of a route. */
export type Query<P extends keyof paths, M extends Method> = Parameters<P, M> extends { query?: infer T } ? NonNullable<T> : undefined;

type Content<T> = T extends { content: { "application/json": infer J } } ? J : T extends { content: object } ? Uint8Array | Blob : never;

/** The body of a request to a route. */
export type Body<P extends keyof paths, M extends Method> =
	Operation<P, M> extends { requestBody: infer T } ? Content<T> : Operation<P, M> extends { requestBody?: infer T } ? Content<NonNullable<T>> | undefined : undefined;

type Success<T> = T extends { 200: infer R } ? R : T extends { 201: infer R } ? R : never;

type Json<T> = T extends { content: { "application/json": infer B } } ? B : undefined;

/** The body of the response of a route. */
export type Result<P extends keyof paths, M extends Method> = Operation<P, M> extends { responses: infer T } ? Json<Success<T>> : never;

/** A row of a list. */
export type Row<P extends keyof paths> = Result<P, "get"> extends { data: (infer T)[] } ? T : never;
