import { endsWithin, newId } from '../environment.ts';
import { BrokerError } from '../errors.ts';
import type { DrawnTask } from '../ledger.ts';
import type { BoundQueue } from '../queue.ts';
import type { QueueBroker } from '../queue-broker.ts';
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
/** A broker that takes longer to answer holds up nobody but itself. */
const ANSWER_WITHIN_MS = 5_000;

interface Drawing {
  readonly asked: number;
  /** The round has gone on without it. */
  isLate: boolean;
}

interface Drawn {
  readonly claimed: number;
  readonly received: number;
}

/** Draws tasks for one worker from its queues, by their weights. */
export class Drawer {
  readonly #options: DrawerOptions;
  /** Queues whose broker failed, with the pause that doubles until it answers again. */
  readonly #resting = new Map<BoundQueue, { readonly pauseMs: number; readonly until: number }>();

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
    const rested = this.#options.queues.filter(
      (bound) => !this.#asked.has(bound) && (this.#resting.get(bound)?.until ?? 0) <= now,
    );
    return new Map(rested.map((bound) => [bound.name, bound]));
  }

  async #drawFrom(bound: BoundQueue, places: number): Promise<Drawn & { readonly asked: number }> {
    const { broker } = bound.queue;
    const asked = Math.min(places, broker.receiveLimit ?? Infinity, broker.capabilities.maxBatch);
    const drawing = { asked, isLate: false };
    const drawn = await this.#inTime(bound, this.#draw(bound, drawing));
    if (drawn !== undefined) return { ...drawn, asked };
    drawing.isLate = true;
    this.rest(bound, tooLate(bound));
    return { claimed: 0, received: 0, asked };
  }

  /** Never rejects. What a late answer brings is taken as well: it is claimed already. */
  async #draw(bound: BoundQueue, drawing: Drawing): Promise<Drawn> {
    const { settings, parts, free, take, afterDraw, signal } = this.#options;
    const before = parts.clock.monotonic();
    const token = newId();
    try {
      const drawn = await bound.ledger.draw(bound.name, {
        max: drawing.asked,
        leaseMs: settings.leaseMs,
        waitMs: 0,
        signal,
        worker: settings.workerId,
        token,
        start: Math.min(drawing.asked, free()),
      });
      this.#resting.delete(bound);
      const claimed = drawn.filter(
        (one) => !this.#returnsLate(bound, one, token, drawing) && take(bound, one, token, before),
      ).length;
      afterDraw();
      return { claimed, received: drawn.length };
    } catch (error) {
      this.rest(bound, error);
      return { claimed: 0, received: 0 };
    }
  }

  /** Whether it goes back: a late draw has started it, and its slot has been given away meanwhile. */
  #returnsLate(bound: BoundQueue, { delivery, answer }: DrawnTask, token: string, drawing: Drawing): boolean {
    if (answer.kind !== 'claimed' || !answer.started || !drawing.isLate || this.#options.free() > 0)
      return false;
    const task = { id: delivery.id, token, receipt: delivery.receipt };
    bound.settle({ task, kind: 'give-back', afterMs: 0 }).catch((err: unknown) => {
      const where = { err, task: task.id, queue: bound.name };
      this.#options.parts.logger.warn(
        where,
        'A task that came late could not be given back: its claim will lapse',
      );
    });
    return true;
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
