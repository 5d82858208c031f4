import { endsWithin, newId } from '../environment.ts';
import { BrokerError } from '../errors.ts';
import type { DrawnTask } from '../ledger.ts';
import type { BoundQueue } from '../queue.ts';
import type { QueueBroker } from '../queue-broker.ts';
import type { WorkerParts } from '../worker-parts.ts';
import type { QueueSelector, QueueShare } from '../queue-selector.ts';
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

/** Stands for the selector among what rests. */
const SELECTOR = 'selector';
const OUTAGE_FIRST_MS = 200;
const OUTAGE_LONGEST_MS = 5_000;
/** A broker that takes longer to answer holds up nobody but itself. */
const ANSWER_WITHIN_MS = 5_000;

interface Drawing {
  readonly bound: BoundQueue;
  readonly token: string;
  /** The monotonic clock before it. */
  readonly before: number;
  readonly answer: Promise<readonly DrawnTask[]>;
}

/** Draws tasks for one worker from its queues, by their weights. */
export class Drawer {
  readonly #options: DrawerOptions;
  /** Queues whose broker failed, or a selector that did, with the pause that doubles until it answers again. */
  readonly #resting = new Map<
    BoundQueue | typeof SELECTOR,
    { readonly pauseMs: number; readonly until: number }
  >();

  /** Queues with a draw under way, and brokers that are being asked what is due: they are asked nothing else. */
  readonly #asked = new Set<BoundQueue | QueueBroker>();

  constructor(options: DrawerOptions) {
    this.#options = options;
  }

  /** A queue could not be asked, so "nothing found" is no truth about it. */
  get hasOutage(): boolean {
    return this.#resting.size > 0;
  }

  /** Whether anything was found. What a queue cannot fill is dealt again among the others, so an empty heavy queue never delays a light one. */
  async round(room: number): Promise<boolean> {
    const open = this.#openQueues();
    let found = false;
    let left = room;
    while (left > 0 && open.size > 0) {
      const shares = this.#deal(open, left);
      if (shares.length === 0) return found;
      for (const { bound, places } of shares) {
        if (!open.has(bound.name)) continue;
        const { claimed, received, asked } = await this.#drawFrom(bound, Math.min(places, left));
        found ||= received > 0;
        left -= claimed;
        if (received < asked) open.delete(bound.name);
        if (left <= 0 || !this.#options.mayDraw()) return found;
      }
    }
    return found;
  }

  /** Milliseconds until something may be due; undefined when a broker cannot tell for all its queues at once. */
  async dueInMs(): Promise<number | undefined> {
    let soonest = Infinity;
    for (const [broker, queues] of this.#byBroker()) {
      if (broker.ready === undefined || this.#asked.has(broker)) return undefined;
      const inMs = await this.#inTime(broker, this.#readyInMs(broker, queues));
      if (inMs === undefined) for (const bound of queues) this.rest(bound, tooLate(bound));
      if (typeof inMs !== 'number') return undefined;
      soonest = Math.min(soonest, inMs);
    }
    return soonest;
  }

  /** Asks the queue again only after a pause that doubles with each failure. */
  rest(bound: BoundQueue, error: unknown): void {
    const { logger, events } = this.#options.parts;
    const where = { queue: bound.name, ...this.#pause(bound) };
    logger.error({ err: error, ...where }, 'The queue cannot be read; trying again');
    events.emit('broker:error', { operation: 'draw', queue: bound.name, error });
  }

  #pause(whose: BoundQueue | typeof SELECTOR): { readonly worker: string; readonly retryInMs: number } {
    const { parts, settings } = this.#options;
    const pauseMs = Math.min(
      (this.#resting.get(whose)?.pauseMs ?? OUTAGE_FIRST_MS / 2) * 2,
      OUTAGE_LONGEST_MS,
    );
    this.#resting.set(whose, { pauseMs, until: parts.clock.monotonic() + pauseMs });
    return { worker: settings.workerId, retryInMs: pauseMs };
  }

  #rests(whose: BoundQueue | typeof SELECTOR): boolean {
    return (this.#resting.get(whose)?.until ?? 0) > this.#options.parts.clock.monotonic();
  }

  #openQueues(): Map<string, BoundQueue> {
    const open = this.#options.queues.filter((bound) => !this.#asked.has(bound) && !this.#rests(bound));
    return new Map(open.map((bound) => [bound.name, bound]));
  }

  /** Only shares that can be drawn: a selector is the user's own code. None when it failed, and until its pause is over. */
  #deal(
    open: ReadonlyMap<string, BoundQueue>,
    room: number,
  ): readonly { readonly bound: BoundQueue; readonly places: number }[] {
    if (this.#rests(SELECTOR)) return [];
    const { selector, parts } = this.#options;
    try {
      const queues = [...open.values()].map(({ queue }) => queue);
      const shares = selector()
        .deal(queues, room, parts.random)
        .flatMap((share: QueueShare) => {
          const bound = open.get(share.queue);
          const places = Math.floor(share.places);
          return bound !== undefined && places >= 1 ? [{ bound, places }] : [];
        });
      this.#resting.delete(SELECTOR);
      return shares;
    } catch (error) {
      parts.logger.error({ err: error, ...this.#pause(SELECTOR) }, 'The queue selector failed; trying again');
      parts.events.emit('broker:error', { operation: 'deal', error });
      return [];
    }
  }

  async #drawFrom(
    bound: BoundQueue,
    places: number,
  ): Promise<{ claimed: number; received: number; asked: number }> {
    const { broker } = bound.queue;
    const asked = Math.min(places, broker.receiveLimit ?? Infinity, broker.capabilities.maxBatch);
    try {
      const drawing = this.#draw(bound, asked);
      const drawn = await this.#inTime(bound, drawing.answer);
      if (drawn !== undefined) return { claimed: this.#take(drawing, drawn), received: drawn.length, asked };
      this.rest(bound, tooLate(bound));
      void this.#takeLate(drawing);
    } catch (error) {
      this.rest(bound, error);
    }
    return { claimed: 0, received: 0, asked };
  }

  #draw(bound: BoundQueue, max: number): Drawing {
    const { settings, parts, free, signal } = this.#options;
    const before = parts.clock.monotonic();
    const token = newId();
    const answer = bound.ledger.draw(bound.name, {
      max,
      leaseMs: settings.leaseMs,
      waitMs: 0,
      signal,
      worker: settings.workerId,
      token,
      start: Math.min(max, free()),
    });
    return { bound, token, before, answer };
  }

  /** How many are in hand. */
  #take({ bound, token, before }: Drawing, drawn: readonly DrawnTask[]): number {
    const { take, afterDraw } = this.#options;
    this.#resting.delete(bound);
    const claimed = drawn.filter((one) => take(bound, one, token, before)).length;
    afterDraw();
    return claimed;
  }

  /** What it brings is claimed already. What it has started goes back when the slots were given away meanwhile. */
  async #takeLate(drawing: Drawing): Promise<void> {
    const { bound, token } = drawing;
    try {
      for (const one of await drawing.answer) {
        const { delivery, answer } = one;
        if (answer.kind !== 'claimed' || !answer.started || this.#options.free() > 0) {
          this.#take(drawing, [one]);
        } else {
          const task = { id: delivery.id, token, receipt: delivery.receipt };
          await bound.settle({ task, kind: 'give-back', afterMs: 0 });
        }
      }
      this.#resting.delete(bound);
    } catch (error) {
      this.rest(bound, error);
    }
  }

  /** Undefined when it has not ended in time. Until it has, `asked` counts as asked. */
  async #inTime<T>(asked: BoundQueue | QueueBroker, work: Promise<T>): Promise<T | undefined> {
    this.#asked.add(asked);
    const ended = work.finally(() => this.#asked.delete(asked));
    return (await endsWithin(ended, ANSWER_WITHIN_MS, this.#options.parts.clock)) ? ended : undefined;
  }

  /** Never rejects. */
  async #readyInMs(broker: QueueBroker, queues: readonly BoundQueue[]): Promise<number | 'unknown'> {
    try {
      const due = (await broker.ready?.(queues.map(({ name }) => name))) ?? [];
      return Math.min(Infinity, ...due.map(({ inMs }) => inMs));
    } catch (error) {
      this.#options.parts.logger.debug(
        { err: error, broker: broker.id },
        'The broker could not be asked what is due',
      );
      return 'unknown';
    }
  }

  #byBroker(): Map<QueueBroker, BoundQueue[]> {
    const queues = new Map<QueueBroker, BoundQueue[]>();
    for (const bound of this.#options.queues) {
      const { broker } = bound.queue;
      queues.set(broker, [...(queues.get(broker) ?? []), bound]);
    }
    return queues;
  }
}

function tooLate(bound: BoundQueue): BrokerError {
  return new BrokerError(
    'BROKER_UNAVAILABLE',
    `Queue "${bound.name}" did not answer within ${ANSWER_WITHIN_MS} ms.`,
    {
      place: { queue: bound.name, broker: bound.queue.broker.id },
    },
  );
}
