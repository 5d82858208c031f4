import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { renderErrorsPage } from '../../scripts/errors-page.ts';
import { ERRORS } from '../../src/errors.ts';

describe('the page of errors', () => {
  it('is current: `npm run build && npm run errors` writes it anew', () => {
    const page = readFileSync(new URL('../../doc/errors.md', import.meta.url), 'utf8');
    expect(page).toBe(renderErrorsPage(ERRORS));
  });

  it('has one heading for every code, with its cause and its mend', () => {
    const page = renderErrorsPage(ERRORS);
    for (const [code, { cause, mend }] of Object.entries(ERRORS)) {
      expect(page.split(`\n### ${code}\n`)).toHaveLength(2);
      expect(page).toContain(`- **Likely cause:** ${cause}\n- **What to do:** ${mend}\n`);
    }
    expect(page.match(/^## .+$/gm)).toHaveLength(6);
  });

  it('refuses a table that lacks the first code of a section', () => {
    expect(() => renderErrorsPage({ USAGE: { cause: 'a', mend: 'b' } })).toThrow('CONFIG_NOT_FOUND');
  });
});
