import { InvalidArgumentError } from './errors.ts';

export type ReportType = 'info' | 'success' | 'warning' | 'error';

export type JsonValue =
  string | number | boolean | null | readonly JsonValue[] | { readonly [key: string]: JsonValue };

export type Interpolation = Readonly<Record<string, string | number>>;

export interface ReportJson {
  readonly type: ReportType;
  readonly message: string;
  readonly data: unknown;
  readonly children: readonly ReportJson[];
  readonly interpolation?: Interpolation;
}

const TYPES: readonly unknown[] = ['info', 'success', 'warning', 'error'] satisfies ReportType[];

/** Levels that are read and written: more than any honest tree has, and far from the end of the stack. */
const MAX_LEVELS = 100;

const BRAND: symbol = Symbol.for('signalbox.report');

/** What a task has to say about its run: a tree of typed messages, each with data of its own. */
export class Report<D = unknown> {
  readonly type: ReportType;
  readonly data: D | null;
  #message: string;
  #interpolation: Interpolation | null = null;
  readonly #children: Report[];

  private constructor(type: ReportType, message: string, data: D | null, children: readonly Report[]) {
    this.type = type;
    this.#message = message;
    this.data = data;
    this.#children = [...children];
    Object.defineProperty(this, BRAND, { value: true });
  }

  /** Throws `REPORT_INVALID` for an unknown type, or a child that is no report. Data left out is null. */
  static create<D = unknown>(
    type: ReportType,
    message = '',
    data?: D | null,
    children: readonly Report[] = [],
  ): Report<D> {
    if (!isReportType(type)) {
      throw new InvalidArgumentError(
        'REPORT_INVALID',
        `Unknown type of report: ${String(type)}; one of ${TYPES.join(', ')} is needed`,
      );
    }
    children.forEach(checkReport);
    return new Report(type, message, data ?? null, children);
  }

  static createInfo<D = unknown>(message = '', data?: D | null, children?: readonly Report[]): Report<D> {
    return Report.create('info', message, data, children);
  }

  static createSuccess<D = unknown>(message = '', data?: D | null, children?: readonly Report[]): Report<D> {
    return Report.create('success', message, data, children);
  }

  static createWarning<D = unknown>(message = '', data?: D | null, children?: readonly Report[]): Report<D> {
    return Report.create('warning', message, data, children);
  }

  static createError<D = unknown>(message = '', data?: D | null, children?: readonly Report[]): Report<D> {
    return Report.create('error', message, data, children);
  }

  /** An error with the errors that led to it as its children. */
  static createFailure<D = unknown>(
    message: string,
    errors: readonly Report[] = [],
    data?: D | null,
  ): Report<D> {
    return Report.create('error', message, data, errors);
  }

  get message(): string {
    return this.#message;
  }

  setMessage(message: string): this {
    this.#message = message;
    return this;
  }

  /** The values for the placeholders of the message, for whoever translates it. */
  get interpolation(): Interpolation | null {
    return this.#interpolation;
  }

  withInterpolation(values: Interpolation): this {
    this.#interpolation = { ...values };
    return this;
  }

  get children(): readonly Report[] {
    return this.#children;
  }

  /** An Error becomes an error child with its message. Throws `REPORT_INVALID` for anything else, and for a tree that holds this report. */
  add(child: Report | readonly Report[] | Error): this {
    const added = child instanceof Error ? [Report.createError(child.message)] : [child].flat();
    for (const report of added) {
      checkReport(report);
      if (report === this || descendantsOf(report).includes(this)) {
        throw new InvalidArgumentError('REPORT_INVALID', 'A report cannot be its own descendant');
      }
    }
    this.#children.push(...added);
    return this;
  }

  /** Asks the descendants only, not this report itself. */
  contains(type: ReportType): boolean {
    return descendantsOf(this).some((report) => report.type === type);
  }

  containsError(): boolean {
    return this.contains('error');
  }

  /** Whether this report or any descendant is an error. */
  isFailure(): boolean {
    return this.type === 'error' || this.containsError();
  }

  /** Direct children; `flat`: all descendants, pre-order. */
  getSuccesses(flat = false): Report[] {
    return this.#ofType('success', flat);
  }

  getErrors(flat = false): Report[] {
    return this.#ofType('error', flat);
  }

  getInfos(flat = false): Report[] {
    return this.#ofType('info', flat);
  }

  getWarnings(flat = false): Report[] {
    return this.#ofType('warning', flat);
  }

  #ofType(type: ReportType, flat: boolean): Report[] {
    return (flat ? descendantsOf(this) : this.#children).filter((report) => report.type === type);
  }

  /** The messages of this report and its descendants, pre-order, joined by a comma; empty ones are left out. */
  getAllMessages(): string {
    return [this, ...descendantsOf(this)]
      .map((report) => report.message)
      .filter((message) => message !== '')
      .join(', ');
  }

  /** What lies deeper than 100 levels comes as children of its ancestor in the last level, so that nothing is lost. */
  toJSON(): ReportJson {
    return toJson(this, 1);
  }

  /** Reads what `toJSON` made, or its JSON text. Null when it is no report: type, message or data missing or wrong, or deeper than 100 levels. */
  static fromJSON(value: unknown): Report | null {
    if (typeof value !== 'string') return fromJson(value, 1);
    try {
      return fromJson(JSON.parse(value), 1);
    } catch {
      return null;
    }
  }
}

/** By brand, since two copies of this package in one process are common. */
export function isReport(value: unknown): value is Report {
  return typeof value === 'object' && value !== null && BRAND in value;
}

function isReportType(value: unknown): value is ReportType {
  return TYPES.includes(value);
}

function checkReport(value: unknown): void {
  if (!isReport(value)) {
    throw new InvalidArgumentError('REPORT_INVALID', 'Only reports and errors can be children of a report');
  }
}

/** Pre-order, with a stack of its own: a tree of any depth is walked. */
function descendantsOf(report: Report): Report[] {
  const found: Report[] = [];
  const waiting = report.children.toReversed();
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    found.push(next);
    for (const child of next.children.toReversed()) waiting.push(child);
  }
  return found;
}

function toJson(report: Report, level: number): ReportJson {
  const children =
    level < MAX_LEVELS - 1
      ? report.children.map((child) => toJson(child, level + 1))
      : descendantsOf(report).map((child) => withChildren(child, []));
  return withChildren(report, children);
}

function withChildren(report: Report, children: readonly ReportJson[]): ReportJson {
  const { type, message, data, interpolation } = report;
  return { type, message, data, children, ...(interpolation !== null && { interpolation }) };
}

function fromJson(value: unknown, level: number): Report | null {
  if (level > MAX_LEVELS || !isRecord(value)) return null;
  const { type, message, data, children = [], interpolation } = value;
  if (!isReportType(type) || typeof message !== 'string' || data === undefined) return null;
  if (!Array.isArray(children)) return null;
  const read: Report[] = [];
  for (const child of children) {
    const report = fromJson(child, level + 1);
    if (report === null) return null;
    read.push(report);
  }
  const report = Report.create(type, message, data, read);
  if (interpolation === undefined) return report;
  return isInterpolation(interpolation) ? report.withInterpolation(interpolation) : null;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isInterpolation(value: unknown): value is Interpolation {
  return (
    isRecord(value) &&
    Object.values(value).every((entry) => typeof entry === 'string' || typeof entry === 'number')
  );
}
