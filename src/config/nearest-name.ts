/** The name that was probably meant by a mistyped one: at most a third of its letters differ. */
export function nearestName(typed: string, names: readonly string[]): string | undefined {
  const scored = names
    .map((name) => ({ name, slips: slips(typed.toLowerCase(), name.toLowerCase()) }))
    .filter(({ name, slips: count }) => count <= Math.max(1, Math.floor(name.length / 3)));
  return scored.sort((a, b) => a.slips - b.slips)[0]?.name;
}

/** Letters to insert, remove, replace or swap with their neighbour. */
function slips(one: string, other: string): number {
  let before: number[] = [];
  let last = Array.from({ length: other.length + 1 }, (_, i) => i);
  for (let i = 1; i <= one.length; i += 1) {
    const row = [i];
    for (let j = 1; j <= other.length; j += 1) {
      const same = one[i - 1] === other[j - 1];
      const costs = [(last[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1, (last[j - 1] ?? 0) + (same ? 0 : 1)];
      const swapped = i > 1 && j > 1 && one[i - 1] === other[j - 2] && one[i - 2] === other[j - 1];
      if (swapped) costs.push((before[j - 2] ?? 0) + 1);
      row.push(Math.min(...costs));
    }
    before = last;
    last = row;
  }
  return last[other.length] ?? 0;
}
