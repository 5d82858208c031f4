import { Drawer } from './drawer.ts';
import { endsWithin, whenAborted } from '../environment.ts';
import { InvalidArgumentError } from '../errors.ts';
import type { BoundQueue } from '../queue.ts';
import type { QueueBroker } from '../queue-broker.ts';
import type { WorkerParts } from '../worker-parts.ts';
import { Slots } from './slots.ts';
import { Bell } from './bell.ts';
import { chooseQueues, workerSettings } from './worker-options.ts';
import type { WorkerOptions, WorkerSettings } from './worker-options.ts';

export type { WorkerOptions };

export interface StopOptions {
  /** Milliseconds that running tasks get; default the worker's `shutdownMs`. */
  readonly timeoutMs?: number;
  /** Aborts running tasks at once. */
  readonly force?: boolean;
}

export type StopReason = 'stopped' | 'limit' | 'empty' | 'time-limit' | 'memory-limit' | 'slots-lost';

export interface WorkerEnd {
  /** Tasks that this worker dealt with. */
  readonly processed: number;
  readonly reason: StopReason;
  /**
   * 0: everything in hand ended by itself or had not begun. 1: tasks were cut short: aborted and given back, or left
   * behind, still claimed. 75: every slot was lost to handlers that ignored their abort.
   */
  readonly exitCode: 0 | 1 | 75;
}

const FIRST_PAUSE_MS = 20;
const RELAY_EVERY_MS = 5_000;
const RELAY_LIMIT = 500;
const LAST_CALLS_MS = 1_000;
const MEBIBYTE = 1_048_576;

/** Draws tasks, runs them in slots and settles them, until it is told to stop. */
export class Worker {
  readonly id: string;
  readonly #options: WorkerOptions;
  readonly #settings: WorkerSettings;
  readonly #queues: readonly BoundQueue[];
  readonly #parts: WorkerParts;
  readonly #slots: Slots;
  readonly #drawer: Drawer;
  readonly #bell: Bell;
  /** Ends a draw that waits for messages. */
  readonly #drawing = new AbortController();
  /** Ends every other wait, and the relay. */
  readonly #ending = new AbortController();
  #ended: Promise<WorkerEnd> | undefined;
  #reason: StopReason | undefined;
  #paused = false;
  #waitsForRoom = false;
  #processed = 0;
  #emptyLooks = 0;
  #pauseMs = FIRST_PAUSE_MS;

  /** @throws InvalidArgumentError `WORKER_OPTIONS_INVALID`, `QUEUE_UNKNOWN` */
  constructor(options: WorkerOptions) {
    const settings = workerSettings(options);
    this.#options = options;
    this.#settings = settings;
    this.id = settings.workerId;
    this.#queues = chooseQueues(options);
    const parts = options.dispatcher.parts;
    this.#parts = parts;
    this.#bell = new Bell(parts.clock);
    const mayDraw = (): boolean => !this.#paused && this.#reason === undefined;
    this.#slots = new Slots({
      settings,
      parts,
      mayStart: mayDraw,
      onProcessed: () => this.#noteProcessed(),
      onLeft: () => this.#noteLeft(),
      onAllLost: () => this.#end('slots-lost', 0),
      onOutage: (bound, error) => this.#drawer.rest(bound, error),
    });
    this.#drawer = new Drawer({
      queues: this.#queues,
      settings,
      parts,
      selector: () => options.dispatcher.selector,
      free: () => this.#slots.free,
      take: (bound, drawn, token, before) => this.#slots.take(bound, drawn, token, before),
      afterDraw: () => this.#slots.startWaiting(),
      mayDraw,
      signal: this.#drawing.signal,
    });
  }

  get isPaused(): boolean {
    return this.#paused;
  }

  /** Works until it is stopped or has reached its limit; resolves when nothing of it is under way any more. Once. */
  run(): Promise<WorkerEnd> {
    if (this.#ended !== undefined) {
      throw new InvalidArgumentError('WORKER_OPTIONS_INVALID', 'A worker runs once; make another one.');
    }
    this.#ended = this.#run();
    return this.#ended;
  }

  /** Takes no more tasks, gives back those that have not begun and lets the others end. Resolves when the worker has ended. */
  async stop({ timeoutMs = this.#settings.shutdownMs, force = false }: StopOptions = {}): Promise<void> {
    this.#end('stopped', force ? 0 : timeoutMs);
    await this.#ended;
  }

  /** Takes no more tasks and gives back those that have not begun; running ones go on, and their leases are renewed. */
  pause(): void {
    if (this.#paused || this.#reason !== undefined) return;
    this.#paused = true;
    this.#slots.giveBackUnstarted();
    this.#parts.logger.info({ worker: this.id }, 'Worker paused');
    this.#parts.events.emit('worker:paused', { workerId: this.id });
    this.#bell.ring();
  }

  /** Nothing happens on a worker that is not paused. */
  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.#parts.logger.info({ worker: this.id }, 'Worker resumed');
    this.#parts.events.emit('worker:resumed', { workerId: this.id });
    this.#wake();
  }

  async #run(): Promise<WorkerEnd> {
    const { events, logger, clock } = this.#parts;
    const { timeLimitMs } = this.#options;
    logger.info({ worker: this.id, queues: this.#queues.map((bound) => bound.name) }, 'Worker started');
    events.emit('worker:started', { workerId: this.id });
    const stopWatching = this.#watch();
    const relaying = this.#relayOwed();
    if (timeLimitMs !== undefined) void this.#endAfter(timeLimitMs);
    const drawing = this.#drawUntilEnd();
    await Promise.race([drawing, whenAborted(this.#drawing.signal)]);
    // A draw under way may still bring tasks, which go back; one that hangs is not waited for.
    await endsWithin(drawing, LAST_CALLS_MS, clock);
    const cutShort = await this.#slots.empty();
    this.#ending.abort();
    await endsWithin(
      Promise.all([drawing, relaying, stopWatching(), this.#slots.quiet()]),
      LAST_CALLS_MS,
      clock,
    );
    const reason = this.#reason ?? 'stopped';
    events.emit('worker:stopped', { workerId: this.id, processed: this.#processed, reason });
    logger.info({ worker: this.id, processed: this.#processed, reason, cutShort }, 'Worker stopped');
    return {
      processed: this.#processed,
      reason,
      exitCode: reason === 'slots-lost' ? 75 : cutShort > 0 ? 1 : 0,
    };
  }

  async #drawUntilEnd(): Promise<void> {
    while (this.#reason === undefined) {
      const room = this.#room();
      if (this.#paused || room === 0) {
        this.#waitsForRoom = true;
        await this.#bell.wait(Infinity);
        this.#waitsForRoom = false;
      } else if (await this.#drawer.round(room)) {
        this.#pauseMs = FIRST_PAUSE_MS;
      } else {
        this.#noteEmptyLook();
        await this.#rest();
      }
    }
  }

  #room(): number {
    const room = this.#slots.room(this.#options.dispatcher.selector.prefetches);
    const { limit } = this.#options;
    return limit === undefined
      ? room
      : Math.max(0, Math.min(room, limit - this.#iterations - this.#slots.size));
  }

  get #iterations(): number {
    return this.#processed + this.#emptyLooks;
  }

  /** Only a look that found nothing while nothing was in hand says that the queue is empty. */
  #noteEmptyLook(): void {
    if (this.#slots.size > 0 || this.#paused || this.#drawer.hasOutage) return;
    this.#emptyLooks += 1;
    if (this.#options.stopWhenEmpty === true) this.#end('empty', Infinity);
    this.#checkLimit();
  }

  #noteProcessed(): void {
    this.#processed += 1;
    this.#checkMemory();
    this.#checkLimit();
  }

  #checkMemory(): void {
    const { memoryLimitMb } = this.#options;
    if (memoryLimitMb !== undefined && process.memoryUsage.rss() > memoryLimitMb * MEBIBYTE) {
      this.#end('memory-limit', this.#settings.shutdownMs);
    }
  }

  #noteLeft(): void {
    if (this.#waitsForRoom || this.#slots.size === 0) this.#bell.ring();
  }

  #checkLimit(): void {
    const { limit } = this.#options;
    if (limit !== undefined && this.#iterations >= limit) this.#end('limit', Infinity);
  }

  /** A pause that doubles while nothing is found. Ended by an enqueue in this process, a broker's wake-up or the next due time. */
  async #rest(): Promise<void> {
    const looksByDrawing = this.#options.limit !== undefined || this.#options.stopWhenEmpty === true;
    for (;;) {
      if (this.#reason !== undefined) return;
      const dueInMs = await this.#drawer.dueInMs();
      const rang = await this.#bell.wait(
        Math.min(this.#pauseMs, Math.max(dueInMs ?? Infinity, FIRST_PAUSE_MS)),
      );
      this.#pauseMs = Math.min(this.#pauseMs * 2, this.#settings.pollIntervalMs);
      this.#checkMemory();
      // Brokers that can say in one question what is due are not drawn from in vain.
      if (rang || looksByDrawing || dueInMs === undefined || dueInMs <= this.#pauseMs) return;
    }
  }

  #wake(): void {
    this.#pauseMs = FIRST_PAUSE_MS;
    this.#bell.ring();
  }

  /** The first reason counts. */
  #end(reason: StopReason, timeoutMs: number): void {
    this.#reason ??= reason;
    this.#drawing.abort();
    if (Number.isFinite(timeoutMs)) void this.#callTimeAfter(timeoutMs);
    this.#slots.giveBackUnstarted();
    this.#bell.ring();
  }

  async #callTimeAfter(ms: number): Promise<void> {
    await this.#parts.clock.sleep(ms, this.#ending.signal);
    this.#slots.callTime();
  }

  async #endAfter(ms: number): Promise<void> {
    await this.#parts.clock.sleep(ms, this.#ending.signal);
    if (!this.#ending.signal.aborted) this.#end('time-limit', this.#settings.shutdownMs);
  }

  /** Wake-ups are a hint: without them a worker polls. Answers the function that ends them. */
  #watch(): () => Promise<void> {
    const names = this.#queues.map((bound) => bound.name);
    const unsubscribe = this.#parts.events.on('task:enqueued', ({ queue, delayMs }) => {
      if (delayMs === 0 && names.includes(queue)) this.#wake();
    });
    const brokers = new Set(this.#queues.map((bound) => bound.queue.broker));
    const watches = [...brokers].map((broker) => this.#watchBroker(broker, names));
    return async () => {
      unsubscribe();
      await Promise.all(watches.map(async (watch) => (await watch)?.()));
    };
  }

  async #watchBroker(
    broker: QueueBroker,
    names: readonly string[],
  ): Promise<(() => Promise<void>) | undefined> {
    try {
      return await broker.watch?.(names, () => this.#wake());
    } catch (error) {
      const { logger, events } = this.#parts;
      logger.warn({ err: error, broker: broker.id }, 'The broker cannot wake this worker, which only polls');
      events.emit('broker:error', { operation: 'watch', error });
      return undefined;
    }
  }

  /** Pushes what somebody owes the queues; only a broker apart from the log's database can be owed anything. */
  async #relayOwed(): Promise<void> {
    const queues = this.#queues.filter((bound) => bound.needsRelay);
    await Promise.all(queues.map((bound) => this.#relayOwedTo(bound)));
  }

  async #relayOwedTo(bound: BoundQueue): Promise<void> {
    const { clock, logger, events } = this.#parts;
    while (this.#reason === undefined) {
      try {
        if ((await bound.ledger.relay(bound.name, RELAY_LIMIT)) > 0) this.#wake();
      } catch (error) {
        logger.warn({ err: error, queue: bound.name }, 'Owed messages could not be pushed; trying again');
        events.emit('broker:error', { operation: 'relay', queue: bound.name, error });
      }
      await clock.sleep(RELAY_EVERY_MS, this.#ending.signal);
    }
  }
}
