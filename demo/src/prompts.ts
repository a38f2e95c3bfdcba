/**
 * What `npm start` asks: three prompts of each kind that the demo experts were tuned for.
 */
export const DEMO_PROMPTS: readonly string[] = [
  'Hi, how are you?',
  'What is 17 plus 25?',
  'Write a Python function that adds two numbers.',
  'I have been sad all day.',
  'Tom has 12 apples and gives 5 to Anna. How many apples does Tom have left?',
  'Write a function that returns the square of a number.',
  'Tell me a short story about Lily and a bear.',
  'How much is 9 times 3?',
  'Write the Python function is_odd(x), which returns True if a number is odd.',
];
