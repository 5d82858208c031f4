/** An item knows its place, so that it can be taken out of the middle. It is in one heap at a time. */
export interface HeapItem {
  place: number;
}

/** The least item first; every change costs the logarithm of the size. */
export class Heap<T extends HeapItem> {
  readonly #items: T[] = [];
  readonly #before: (a: T, b: T) => boolean;

  constructor(before: (a: T, b: T) => boolean) {
    this.#before = before;
  }

  get size(): number {
    return this.#items.length;
  }

  first(): T | undefined {
    return this.#items[0];
  }

  add(item: T): void {
    this.#items.push(item);
    this.#rise(item, this.#items.length - 1);
  }

  remove(item: T): void {
    const last = this.#items.pop();
    if (last === undefined || last === item) return;
    this.#rise(last, item.place);
    this.#sink(last, last.place);
  }

  #put(item: T, place: number): void {
    this.#items[place] = item;
    item.place = place;
  }

  #rise(item: T, from: number): void {
    let place = from;
    while (place > 0) {
      const parent = this.#items[(place - 1) >> 1];
      if (parent === undefined || !this.#before(item, parent)) break;
      this.#put(parent, place);
      place = (place - 1) >> 1;
    }
    this.#put(item, place);
  }

  #sink(item: T, from: number): void {
    let place = from;
    for (;;) {
      const left = this.#items[2 * place + 1];
      const right = this.#items[2 * place + 2];
      const child =
        left !== undefined && right !== undefined && this.#before(right, left)
          ? 2 * place + 2
          : 2 * place + 1;
      const least = this.#items[child];
      if (least === undefined || !this.#before(least, item)) break;
      this.#put(least, place);
      place = child;
    }
    this.#put(item, place);
  }
}
