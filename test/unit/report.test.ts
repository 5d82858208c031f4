import { describe, expect, it, vi } from 'vitest';
import { isSignalboxError } from '../../src/errors.ts';
import { isReport, Report } from '../../src/report.ts';
import type { ReportType } from '../../src/report.ts';

function chain(levels: number): Report {
  let report = Report.createError('the deepest');
  for (let level = 1; level < levels; level += 1) report = Report.createInfo(`level`, null, [report]);
  return report;
}

function codeOf(act: () => unknown): string {
  try {
    act();
  } catch (error) {
    return isSignalboxError(error) ? error.code : String(error);
  }
  return 'nothing thrown';
}

describe('a report', () => {
  it('has the type of the method that made it, and null for data left out', () => {
    expect(Report.createInfo('a').type).toBe('info');
    expect(Report.createSuccess('a').type).toBe('success');
    expect(Report.createWarning('a').type).toBe('warning');
    expect(Report.createError('a').type).toBe('error');
    expect(Report.createSuccess().message).toBe('');
    expect(Report.createSuccess('a').data).toBeNull();
    expect(Report.createSuccess('a', { file: 'x' }).data).toEqual({ file: 'x' });
    expect(Report.createSuccess('a', 0).data).toBe(0);
  });

  it('is an error with the given children when made as a failure', () => {
    const errors = [Report.createError('one'), Report.createError('two')];
    const failure = Report.createFailure('both failed', errors, { count: 2 });
    expect(failure.type).toBe('error');
    expect(failure.children).toEqual(errors);
    expect(failure.data).toEqual({ count: 2 });
  });

  it('refuses an unknown type', () => {
    expect(codeOf(() => Report.create('fatal' as ReportType))).toBe('REPORT_INVALID');
    expect(codeOf(() => Report.create('toString' as ReportType))).toBe('REPORT_INVALID');
  });

  it('takes a report, a list of reports or an error as children', () => {
    const report = Report.createInfo('root')
      .add(Report.createSuccess('one'))
      .add([Report.createInfo('two'), Report.createWarning('three')])
      .add(new TypeError('four'));
    expect(report.children.map((child) => [child.type, child.message])).toEqual([
      ['success', 'one'],
      ['info', 'two'],
      ['warning', 'three'],
      ['error', 'four'],
    ]);
  });

  it('refuses children that are no reports', () => {
    const noReport = { type: 'info', message: 'looks like one', data: null } as Report;
    expect(codeOf(() => Report.createInfo('root').add(noReport))).toBe('REPORT_INVALID');
    expect(codeOf(() => Report.createInfo('root', null, [noReport]))).toBe('REPORT_INVALID');
  });

  it('cannot become its own descendant', () => {
    const root = Report.createInfo('root');
    const child = Report.createInfo('child');
    root.add(child);
    expect(codeOf(() => root.add(root))).toBe('REPORT_INVALID');
    expect(codeOf(() => child.add(root))).toBe('REPORT_INVALID');
    expect(root.getAllMessages()).toBe('root, child');
  });

  it('looks for a type among its descendants, not at itself', () => {
    const error = Report.createError('root', null, [Report.createInfo('child')]);
    expect(error.containsError()).toBe(false);
    expect(error.contains('info')).toBe(true);
    expect(error.isFailure()).toBe(true);
    const deep = Report.createSuccess('root', null, [
      Report.createInfo('a', null, [Report.createError('b')]),
    ]);
    expect(deep.containsError()).toBe(true);
    expect(deep.isFailure()).toBe(true);
    expect(deep.contains('warning')).toBe(false);
    expect(Report.createSuccess('alone').isFailure()).toBe(false);
  });

  it('lists direct children, or all descendants in pre-order', () => {
    const root = Report.createInfo('root', null, [
      Report.createError('1', null, [
        Report.createError('1.1'),
        Report.createInfo('1.2', null, [Report.createError('1.2.1')]),
      ]),
      Report.createError('2'),
      Report.createSuccess('3'),
      Report.createWarning('4'),
    ]);
    const messages = (reports: readonly Report[]): string[] => reports.map((report) => report.message);
    expect(messages(root.getErrors())).toEqual(['1', '2']);
    expect(messages(root.getErrors(true))).toEqual(['1', '1.1', '1.2.1', '2']);
    expect(messages(root.getInfos())).toEqual([]);
    expect(messages(root.getInfos(true))).toEqual(['1.2']);
    expect(messages(root.getSuccesses())).toEqual(['3']);
    expect(messages(root.getWarnings())).toEqual(['4']);
    expect(root.getAllMessages()).toBe('root, 1, 1.1, 1.2, 1.2.1, 2, 3, 4');
  });

  it('leaves empty messages out when it joins them', () => {
    expect(
      Report.createInfo('', null, [Report.createInfo('a'), Report.createInfo('')]).getAllMessages(),
    ).toBe('a');
  });

  it('can change its message', () => {
    const report = Report.createInfo('before');
    expect(report.setMessage('after')).toBe(report);
    expect(report.message).toBe('after');
  });

  it('keeps the interpolation of root and children on the round trip', () => {
    const report = Report.createInfo('{done} of {all}', null, [
      Report.createError('no {file}').withInterpolation({ file: 'a.txt' }),
    ]).withInterpolation({ done: 1, all: 2 });
    const read = Report.fromJSON(JSON.stringify(report));
    expect(read?.interpolation).toEqual({ done: 1, all: 2 });
    expect(read?.children[0]?.interpolation).toEqual({ file: 'a.txt' });
  });
});

describe('reading a report', () => {
  it('takes the object as well as its text', () => {
    const json = { type: 'info', message: 'a', data: { b: [1] }, children: [] };
    expect(Report.fromJSON(json)?.toJSON()).toEqual(json);
    expect(Report.fromJSON(JSON.stringify(json))?.toJSON()).toEqual(json);
    expect(Report.fromJSON({ type: 'info', message: 'a', data: null })?.children).toEqual([]);
  });

  it.each([
    ['the type is missing', { message: 'a', data: null }],
    ['the type is unknown', { type: 'fatal', message: 'a', data: null }],
    ['the message is missing', { type: 'info', data: null }],
    ['the message is a number', { type: 'info', message: 1, data: null }],
    ['the data is missing', { type: 'info', message: 'a' }],
    ['the children are no list', { type: 'info', message: 'a', data: null, children: {} }],
    ['a child is no report', { type: 'info', message: 'a', data: null, children: [{ type: 'info' }] }],
    ['the interpolation holds objects', { type: 'info', message: 'a', data: null, interpolation: { x: {} } }],
    ['the value is a list', []],
    ['the value is null', null],
    ['the text is no JSON', '{'],
    ['the text is empty', ''],
  ])('gives null when %s', (_case, value) => {
    expect(Report.fromJSON(value)).toBeNull();
  });

  it('refuses a tree that is thousands of levels deep without running out of stack', () => {
    const level = '{"type":"info","message":"","data":null,"children":[';
    const text = (levels: number): string => level.repeat(levels) + ']}'.repeat(levels);
    expect(Report.fromJSON(text(100))).not.toBeNull();
    expect(Report.fromJSON(text(101))).toBeNull();
    expect(Report.fromJSON(text(10_000))).toBeNull();
  });
});

describe('a report of 10,000 levels', () => {
  it('is searched without running out of stack', () => {
    const deep = chain(10_000);
    expect(deep.isFailure()).toBe(true);
    expect(deep.getErrors(true)).toHaveLength(1);
  });

  it('is written so that it can be read again, with every message', () => {
    const deep = chain(10_000);
    const read = Report.fromJSON(JSON.stringify(deep));
    expect(read?.getAllMessages()).toBe(deep.getAllMessages());
    expect(read?.getErrors(true).map((report) => report.message)).toEqual(['the deepest']);
  });
});

describe('isReport', () => {
  it('knows reports of another copy of the package, and nothing else', async () => {
    vi.resetModules();
    const copy = await import('../../src/report.ts');
    expect(copy.Report).not.toBe(Report);
    expect(isReport(copy.Report.createInfo('foreign'))).toBe(true);
    expect(Report.createInfo('root').add(copy.Report.createError('foreign')).containsError()).toBe(true);
    expect(isReport(Report.createInfo('own').toJSON())).toBe(false);
    expect([null, undefined, 'info', 1].some(isReport)).toBe(false);
  });
});
