import fc from 'fast-check';
import { expect, it } from 'vitest';
import { Report } from '../../src/report.ts';
import type { ReportType } from '../../src/report.ts';

const types = fc.constantFrom<ReportType>('info', 'success', 'warning', 'error');

const { report: reports } = fc.letrec<{ report: Report }>((tie) => ({
  report: fc
    .record({
      type: types,
      message: fc.string({ unit: 'binary' }),
      data: fc.jsonValue(),
      children: fc.oneof(
        { depthSize: 'small', withCrossShrink: true },
        fc.constant([]),
        fc.array(tie('report'), { maxLength: 4 }),
      ),
      interpolation: fc.option(
        fc.dictionary(fc.string(), fc.oneof(fc.string(), fc.integer()), { maxKeys: 3 }),
        { nil: null },
      ),
    })
    .map(({ type, message, data, children, interpolation }) => {
      const report = Report.create(type, message, data, children);
      return interpolation === null ? report : report.withInterpolation(interpolation);
    }),
}));

function preOrder(report: Report): Report[] {
  return report.children.flatMap((child) => [child, ...preOrder(child)]);
}

it('is the same tree after a round trip through text', () => {
  fc.assert(
    fc.property(reports, (report) => {
      const text = JSON.stringify(report);
      const read = Report.fromJSON(text);
      expect(JSON.parse(JSON.stringify(read))).toEqual(JSON.parse(text));
      expect(read?.getAllMessages()).toBe(report.getAllMessages());
    }),
  );
});

it('contains a type exactly when one of its descendants has it', () => {
  fc.assert(
    fc.property(reports, types, (report, type) => {
      const descendants = preOrder(report);
      expect(report.contains(type)).toBe(descendants.some((descendant) => descendant.type === type));
      expect(report.getErrors(true)).toEqual(descendants.filter((descendant) => descendant.type === 'error'));
      expect(report.isFailure()).toBe(report.type === 'error' || report.containsError());
    }),
  );
});

it('reads any text and any value as a report or null, without a throw', () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json(), fc.anything()), (value) => {
      const read = Report.fromJSON(value);
      expect(read === null || read instanceof Report).toBe(true);
    }),
  );
});
