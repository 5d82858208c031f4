import { silentLogger } from './environment.ts';
import type { Logger } from './environment.ts';
import type { Report } from './report.ts';

export interface TaskEvent {
  readonly taskId: string;
  readonly taskName: string;
  readonly queue: string;
  readonly label?: string;
}

interface WorkerTaskEvent extends TaskEvent {
  readonly workerId: string;
}

interface RunEvent extends WorkerTaskEvent {
  /** 1 for the first run. */
  readonly attempt: number;
}

interface EndEvent extends RunEvent {
  readonly durationMs: number;
  readonly report: Report;
}

interface WorkerEvent {
  readonly workerId: string;
}

/** Everything that can be listened to. Durations are in ms. */
export interface EventMap {
  readonly 'task:enqueued': TaskEvent & { readonly delayMs: number };
  readonly 'task:started': RunEvent;
  readonly 'task:progress': WorkerTaskEvent & { readonly percent: number; readonly note?: string };
  readonly 'task:retrying': RunEvent & { readonly afterMs: number; readonly error: unknown };
  readonly 'task:completed': EndEvent;
  readonly 'task:failed': EndEvent & { readonly deadReason?: string };
  /** Without a worker: cancelled before it ran, or by force. */
  readonly 'task:cancelled': TaskEvent & { readonly workerId?: string };
  readonly 'task:archived': { readonly taskId: string; readonly forced: boolean };
  readonly 'worker:started': WorkerEvent;
  readonly 'worker:paused': WorkerEvent;
  readonly 'worker:resumed': WorkerEvent;
  readonly 'worker:stopped': WorkerEvent & { readonly processed: number; readonly reason: string };
  readonly 'broker:error': { readonly operation: string; readonly queue?: string; readonly error: unknown };
}

export type EventName = keyof EventMap;

/** What it returns is ignored, but a promise that rejects is logged. */
export type Listener<K extends EventName> = (event: EventMap[K]) => unknown;

interface Subscription<K extends EventName> {
  readonly listener: Listener<K>;
  readonly once: boolean;
}

/** Tells listeners what happens. A listener that throws or rejects is logged and stops nobody: neither the worker nor the next listener. */
export class EventBus {
  readonly #logger: Logger;
  // The lists are replaced, never changed, so that an emit goes on over the one it began with.
  readonly #subscriptions: { [K in EventName]?: readonly Subscription<K>[] } = {};

  constructor(logger: Logger = silentLogger) {
    this.#logger = logger;
  }

  /** Returns what ends this subscription, and only this. */
  on<K extends EventName>(name: K, listener: Listener<K>): () => void {
    return this.#subscribe(name, { listener, once: false });
  }

  /** For the next event only. */
  once<K extends EventName>(name: K, listener: Listener<K>): () => void {
    return this.#subscribe(name, { listener, once: true });
  }

  /** Ends every subscription of this listener to the event. */
  off<K extends EventName>(name: K, listener: Listener<K>): void {
    this.#keep(name, (subscription) => subscription.listener !== listener);
  }

  /** Calls the listeners in the order they came, synchronously; their promises are not awaited. Never throws. */
  emit<K extends EventName>(name: K, event: EventMap[K]): void {
    const subscriptions: readonly Subscription<K>[] | undefined = this.#subscriptions[name];
    if (subscriptions === undefined) return;
    for (const subscription of subscriptions) {
      // A listener before it may have ended it, or emitted the same event and so used it up.
      if (!this.#holds(name, subscription)) continue;
      if (subscription.once) this.#keep(name, (other) => other !== subscription);
      this.#call(name, subscription.listener, event);
    }
  }

  #call<K extends EventName>(name: K, listener: Listener<K>, event: EventMap[K]): void {
    const failed = (err: unknown): void => this.#logger.error({ err, event: name }, 'A listener failed');
    try {
      const answer = listener(event);
      if (isThenable(answer)) Promise.resolve(answer).catch(failed);
    } catch (error) {
      failed(error);
    }
  }

  #subscribe<K extends EventName>(name: K, subscription: Subscription<K>): () => void {
    this.#replace(name, [...(this.#subscriptions[name] ?? []), subscription]);
    return () => this.#keep(name, (other) => other !== subscription);
  }

  #keep<K extends EventName>(name: K, keeps: (subscription: Subscription<K>) => boolean): void {
    const subscriptions: readonly Subscription<K>[] = this.#subscriptions[name] ?? [];
    this.#replace(name, subscriptions.filter(keeps));
  }

  #holds<K extends EventName>(name: K, subscription: Subscription<K>): boolean {
    const subscriptions: readonly Subscription<K>[] = this.#subscriptions[name] ?? [];
    return subscriptions.includes(subscription);
  }

  #replace<K extends EventName>(name: K, subscriptions: readonly Subscription<K>[]): void {
    const all: { [N in K]?: readonly Subscription<N>[] } = this.#subscriptions;
    all[name] = subscriptions;
  }
}

function isThenable(value: unknown): boolean {
  return typeof value === 'object' && value !== null && 'then' in value;
}
