/** An error that the server answered. docs/errors.md says what each code means. */
export class AgentoError extends Error {
	override readonly name = "AgentoError";
	readonly status: number;
	/** For programs, such as `not_found`; `foreign_answer` if something else than agento has answered. */
	readonly code: string;
	/** The problem of each field, or what you need for another attempt. */
	readonly details: Readonly<Record<string, string>>;
	/** Names the request in the server's log. */
	readonly requestId: string | undefined;
	/** Seconds after which another attempt makes sense. */
	readonly retryAfter: number | undefined;
	readonly headers: Headers;

	constructor(status: number, code: string, message: string, details: Record<string, string>, headers: Headers, requestId?: string) {
		super(message);
		this.status = status;
		this.code = code;
		this.details = details;
		this.headers = headers;
		this.requestId = requestId ?? headers.get("x-request-id") ?? undefined;
		const seconds = Number(headers.get("retry-after") ?? Number.NaN);
		this.retryAfter = seconds > 0 ? seconds : undefined;
	}
}

/** Returns the error of a response with an error status. */
export async function readError(response: Response): Promise<AgentoError> {
	const text = await response.text().catch(() => "");
	try {
		const { error } = JSON.parse(text) as { error: { code: string; message: string; requestId?: string; details?: Record<string, string> } };
		if (typeof error.code === "string") {
			return new AgentoError(response.status, error.code, error.message, error.details ?? {}, response.headers, error.requestId);
		}
	} catch {
		// what has answered is not agento
	}
	const message = `the server answered ${response.status} without an agento error: check that the URL is that of an agento server`;
	return new AgentoError(response.status, "foreign_answer", message, {}, response.headers);
}
