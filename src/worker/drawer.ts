import { newId } from '../environment.ts';
import type { DrawnTask } from '../ledger.ts';
import type { BoundQueue } from '../queue.ts';
import type { WorkerParts } from '../worker-parts.ts';
import type { QueueSelector } from '../queue-selector.ts';
import type { WorkerSettings } from './worker-options.ts';

export interface DrawerOptions {
  readonly queues: readonly BoundQueue[];
  readonly settings: WorkerSettings;
  readonly parts: WorkerParts;
  readonly selector: () => QueueSelector;
  /** How many of the next draw can start at once. */
  readonly free: () => number;
  /** Whether the drawn task is in hand now. */
  readonly take: (bound: BoundQueue, drawn: DrawnTask, token: string, before: number) => boolean;
  readonly afterDraw: () => void;
  /** Whether drawing goes on. */
  readonly mayDraw: () => boolean;
  /** Ends a call that waits. */
  readonly signal: AbortSignal;
}

const OUTAGE_FIRST_MS = 200;
const OUTAGE_LONGEST_MS = 5_000;

/** Draws tasks for one worker from its queues, by their weights. */
export class Drawer {
  readonly #options: DrawerOptions;
  /** Queues whose broker failed, with the pause that doubles until it answers again. */
  readonly #resting = new Map<BoundQueue, { readonly pauseMs: number; readonly until: number }>();

  constructor(options: DrawerOptions) {
    this.#options = options;
  }

  /** A queue could not be asked, so "nothing found" is no truth about it. */
  get hasOutage(): boolean {
    return this.#resting.size > 0;
  }

  /** Whether anything was found. What a queue cannot fill is dealt again among the others, so an empty heavy queue never delays a light one. */
  async round(room: number): Promise<boolean> {
    const { selector, parts, mayDraw } = this.#options;
    const open = this.#openQueues();
    let found = false;
    let left = room;
    while (left > 0 && open.size > 0) {
      const queues = [...open.values()].map(({ queue }) => queue);
      for (const { queue, places } of selector().deal(queues, left, parts.random)) {
        const bound = open.get(queue);
        if (bound === undefined || places <= 0) continue;
        const { claimed, received, asked } = await this.#drawFrom(bound, places);
        found ||= received > 0;
        left -= claimed;
        if (received < asked) open.delete(queue);
        if (!mayDraw()) return found;
      }
    }
    return found;
  }

  /** Milliseconds until something may be due; undefined when a broker cannot tell for all its queues at once. */
  async dueInMs(): Promise<number | undefined> {
    let soonest = Infinity;
    for (const [broker, names] of this.#byBroker()) {
      if (broker.ready === undefined) return undefined;
      try {
        for (const { inMs } of await broker.ready(names)) soonest = Math.min(soonest, inMs);
      } catch (error) {
        this.#options.parts.logger.debug(
          { err: error, broker: broker.id },
          'The broker could not be asked what is due',
        );
        return undefined;
      }
    }
    return soonest;
  }

  /** Asks the queue again only after a pause that doubles with each failure. */
  rest(bound: BoundQueue, error: unknown): void {
    const { clock, logger, events } = this.#options.parts;
    const pauseMs = Math.min(
      (this.#resting.get(bound)?.pauseMs ?? OUTAGE_FIRST_MS / 2) * 2,
      OUTAGE_LONGEST_MS,
    );
    this.#resting.set(bound, { pauseMs, until: clock.monotonic() + pauseMs });
    const where = { queue: bound.name, worker: this.#options.settings.workerId, retryInMs: pauseMs };
    logger.error({ err: error, ...where }, 'The queue cannot be read; trying again');
    events.emit('broker:error', { operation: 'draw', queue: bound.name, error });
  }

  #openQueues(): Map<string, BoundQueue> {
    const now = this.#options.parts.clock.monotonic();
    const rested = this.#options.queues.filter((bound) => (this.#resting.get(bound)?.until ?? 0) <= now);
    return new Map(rested.map((bound) => [bound.name, bound]));
  }

  async #drawFrom(
    bound: BoundQueue,
    places: number,
  ): Promise<{ claimed: number; received: number; asked: number }> {
    const { settings, parts, free, take, afterDraw, signal } = this.#options;
    const { broker } = bound.queue;
    const asked = Math.min(places, broker.receiveLimit ?? Infinity, broker.capabilities.maxBatch);
    const before = parts.clock.monotonic();
    const token = newId();
    try {
      const drawn = await bound.ledger.draw(bound.name, {
        max: asked,
        leaseMs: settings.leaseMs,
        waitMs: 0,
        signal,
        worker: settings.workerId,
        token,
        start: Math.min(asked, free()),
      });
      this.#resting.delete(bound);
      const claimed = drawn.filter((one) => take(bound, one, token, before)).length;
      afterDraw();
      return { claimed, received: drawn.length, asked };
    } catch (error) {
      this.rest(bound, error);
      return { claimed: 0, received: 0, asked };
    }
  }

  #byBroker(): Map<BoundQueue['queue']['broker'], string[]> {
    const names = new Map<BoundQueue['queue']['broker'], string[]>();
    for (const { queue } of this.#options.queues) {
      names.set(queue.broker, [...(names.get(queue.broker) ?? []), queue.name]);
    }
    return names;
  }
}
