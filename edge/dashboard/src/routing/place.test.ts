import { describe, expect, it } from 'vitest';
import { parseRulesText } from '../../../src/rules/parse.ts';
import { lineOfProblem, rangeOfLine } from './place.ts';

const RULES = `# Rules.
version: 1
rules:
  # The app names its model.
  - name: requested
    when: { not: { model: auto } }
    then: { model: requested }
  - name: sums
    when:
      prompt: '\\d'
      all:
        - label: math
    then:
      model: math
      regions: [eu]
  - name: rest
    then: { model: chat }
`;

/** What the edge says of them, and the line that it is about. */
function placed(from: string, to: string): string | undefined {
  const text = RULES.replace(from, to);
  try {
    parseRulesText(text, 'the rules', ['eu']);
  } catch (error) {
    const line = lineOfProblem((error as Error).message, text);
    return line === undefined ? undefined : text.split('\n')[line - 1]?.trim();
  }
  throw new Error('these rules are valid');
}

describe("the place of a problem that the edge's own check finds", () => {
  it('is the line of the field', () => {
    expect(placed("'\\d'", "'(\\d'")).toBe("prompt: '(\\d'");
    expect(placed('model: math\n', 'model: ma th\n')).toBe('model: ma th');
    expect(placed('label: math', 'label: [1]')).toBe('- label: [1]');
  });

  it('is the line of its rule, where the field is on none of its own or the rule is at fault', () => {
    expect(placed('{ model: chat }', '{ modell: chat }')).toBe('then: { modell: chat }');
    expect(placed('regions: [eu]', 'regions: [mars]')).toBe('- name: sums');
    expect(placed('name: rest', 'name: rest\n    when: { label: x }')).toBe('- name: rest');
  });

  it('is where the YAML breaks', () => {
    expect(placed('    then: { model: chat }', '   then: { model: chat }')).toMatch(
      /then: \{ model: chat \}|name: rest/,
    );
  });

  it('is nowhere for a message that names none, or one that is not there', () => {
    expect(lineOfProblem('the edge does not answer', RULES)).toBeUndefined();
    expect(lineOfProblem('the rules: rules[9].when: no', RULES)).toBeUndefined();
    expect(lineOfProblem('not YAML: at line 99, column 1', RULES)).toBeUndefined();
  });
});

it('a line is selected from its first character to its last', () => {
  const { start, end } = rangeOfLine(RULES, 5);
  expect(RULES.slice(start, end)).toBe('  - name: requested');
});
