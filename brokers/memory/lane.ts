import type { Delivery, OutgoingMessage, QueueCount, Receipt, Release } from '../../src/queue-broker.ts';
import { Heap } from './heap.ts';
import type { HeapItem } from './heap.ts';

interface Message extends HeapItem {
  readonly id: string;
  readonly body: string;
  readonly group: string | undefined;
  readonly priority: number;
  readonly sequence: number;
  state: 'ready' | 'delayed' | 'leased';
  due: number;
  /** Of the latest delivery: it stays valid after its lease until the message is delivered again. */
  receipt: Receipt | null;
}

/** The messages of one queue. `now` is the caller's: a lane has no clock. */
export class Lane {
  readonly #ready = new Heap<Message>(
    (a, b) => a.priority > b.priority || (a.priority === b.priority && a.sequence < b.sequence),
  );
  readonly #waiting = new Heap<Message>(
    (a, b) => a.due < b.due || (a.due === b.due && a.sequence < b.sequence),
  );
  readonly #byReceipt = new Map<Receipt, Message>();
  readonly #newReceipt: () => Receipt;
  #sequence = 0;
  #leased = 0;

  constructor(newReceipt: () => Receipt) {
    this.#newReceipt = newReceipt;
  }

  push(outgoing: OutgoingMessage, now: number): void {
    const message: Message = {
      id: outgoing.id,
      body: outgoing.body,
      group: outgoing.group,
      priority: outgoing.priority ?? 0,
      sequence: this.#sequence++,
      state: 'ready',
      due: now,
      receipt: null,
      place: 0,
    };
    this.#enter(message, 'delayed', now, outgoing.delayMs ?? 0);
  }

  take(max: number, leaseMs: number, now: number): Delivery[] {
    this.#wake(now);
    const deliveries: Delivery[] = [];
    while (deliveries.length < max) {
      const message = this.#ready.first();
      if (message === undefined) break;
      this.#leave(message);
      if (message.receipt !== null) this.#byReceipt.delete(message.receipt);
      const receipt = this.#newReceipt();
      message.receipt = receipt;
      this.#byReceipt.set(receipt, message);
      this.#enter(message, 'leased', now, leaseMs);
      const { id, body, group } = message;
      deliveries.push({
        id,
        body,
        receipt,
        ...(group === undefined ? {} : { group }),
        leaseLeftMs: leaseMs,
      });
    }
    return deliveries;
  }

  acknowledge(receipt: Receipt): boolean {
    const message = this.#byReceipt.get(receipt);
    if (message === undefined) return false;
    this.#leave(message);
    this.#byReceipt.delete(receipt);
    return true;
  }

  release({ receipt, delayMs }: Release, now: number): boolean {
    const message = this.#byReceipt.get(receipt);
    if (message === undefined) return false;
    this.#leave(message);
    this.#byReceipt.delete(receipt);
    message.receipt = null;
    this.#enter(message, 'delayed', now, delayMs);
    return true;
  }

  extend(receipt: Receipt, leaseMs: number, now: number): boolean {
    const message = this.#byReceipt.get(receipt);
    if (message === undefined) return false;
    this.#leave(message);
    this.#enter(message, 'leased', now, leaseMs);
    return true;
  }

  count(now: number): QueueCount {
    this.#wake(now);
    return {
      ready: this.#ready.size,
      delayed: this.#waiting.size - this.#leased,
      leased: this.#leased,
      exact: true,
    };
  }

  /** Milliseconds until a message may be received; undefined when there is none at all. */
  nextInMs(now: number): number | undefined {
    if (this.#ready.size > 0) return 0;
    const next = this.#waiting.first();
    return next === undefined ? undefined : Math.max(0, next.due - now);
  }

  #wake(now: number): void {
    for (let next = this.#waiting.first(); next !== undefined && next.due <= now;) {
      this.#leave(next);
      this.#enter(next, 'delayed', now, 0);
      next = this.#waiting.first();
    }
  }

  #enter(message: Message, state: 'delayed' | 'leased', now: number, waitMs: number): void {
    message.due = now + Math.max(0, waitMs);
    message.state = message.due > now ? state : 'ready';
    if (message.state === 'ready') {
      this.#ready.add(message);
      return;
    }
    if (message.state === 'leased') this.#leased += 1;
    this.#waiting.add(message);
  }

  #leave(message: Message): void {
    if (message.state === 'leased') this.#leased -= 1;
    (message.state === 'ready' ? this.#ready : this.#waiting).remove(message);
  }
}
