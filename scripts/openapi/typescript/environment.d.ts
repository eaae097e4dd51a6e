declare const process: { env: Record<string, string>; exit(status: number): never };
