import type { LogLevel } from './environment.ts';

declare const tokenType: unique symbol;

/** Names a service that `context.get` finds in the container. */
export type Token<T> = symbol & { readonly [tokenType]?: T };

/** The same name gives the same token, in every copy of this package. */
export function createToken<T>(name: string): Token<T> {
  return Symbol.for(`signalbox.token.${name}`);
}

/** What a handler may know and do while it runs. Its functions need no `this`: take out of it what you use. */
export interface TaskContext {
  readonly taskId: string;
  readonly taskName: string;
  readonly workerId: string;
  /** 1 for the first run; runs whose worker died count too. */
  readonly attempt: number;
  readonly queue: string;
  readonly label: string;
  readonly owner: string | null;
  /** As the caller of `enqueue` gave them. */
  readonly headers: Readonly<Record<string, string>>;
  /** Aborted on timeout, cancellation, loss of the claim and the end of a shutdown. Its `reason` is an error that says which. */
  readonly signal: AbortSignal;
  /** 0 to 100; seen at once in events and, throttled, in the task log. */
  readonly progress: (percent: number, note?: string) => void;
  /** A line in the task's own log and, with the task's id, in the worker's. */
  readonly log: (level: LogLevel, message: string) => void;
  /** @throws SignalboxError `SERVICE_UNKNOWN` */
  readonly get: <T>(token: Token<T>) => T;
}
