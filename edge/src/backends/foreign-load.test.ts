import { describe, expect, it } from 'vitest';
import { readLoad } from './foreign-load.ts';

/** As the servers print them (with more around it): vLLM 0.10, llama.cpp's llama-server, SGLang 0.4, Text Generation Inference 3. */
const TEXTS: [string, string, ReturnType<typeof readLoad>][] = [
  [
    'vLLM, the sum of its engines',
    `# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="meta-llama/Llama-3.1-8B-Instruct"} 8.0
vllm:num_requests_running{engine="1",model_name="meta-llama/Llama-3.1-8B-Instruct"} 7.0
# HELP vllm:num_requests_waiting Number of requests waiting to be processed.
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="meta-llama/Llama-3.1-8B-Instruct"} 3.0
vllm:num_requests_waiting{engine="1",model_name="meta-llama/Llama-3.1-8B-Instruct"} 1.0
vllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 100.0
`,
    { waiting: 4, running: 15 },
  ],
  [
    'llama.cpp',
    `# HELP llamacpp:prompt_tokens_total Number of prompt tokens processed.
# TYPE llamacpp:prompt_tokens_total counter
llamacpp:prompt_tokens_total 5270
# HELP llamacpp:requests_processing Number of requests processing.
# TYPE llamacpp:requests_processing gauge
llamacpp:requests_processing 2
# HELP llamacpp:requests_deferred Number of requests deferred.
# TYPE llamacpp:requests_deferred gauge
llamacpp:requests_deferred 5
`,
    { waiting: 5, running: 2 },
  ],
  [
    'SGLang',
    `# TYPE sglang:num_running_reqs gauge
sglang:num_running_reqs{engine_type="unified",model_name="a } b \\"c\\""} 161.0
# TYPE sglang:num_queue_reqs gauge
sglang:num_queue_reqs{engine_type="unified",model_name="a } b \\"c\\""} 2826.0 1395066363000
`,
    { waiting: 2826, running: 161 },
  ],
  ['Text Generation Inference', 'tgi_queue_size 2\ntgi_batch_current_size 9\n', { waiting: 2, running: 9 }],
];

describe('the load in metrics', () => {
  it.each(TEXTS)('of %s', (_, text, load) => {
    expect(readLoad(text)).toEqual(load);
    expect(readLoad(text.replaceAll('\n', '\r\n'))).toEqual(load);
  });

  it('is not known where no gauge tells what waits, or it is no number', () => {
    for (const text of [
      '',
      'process_cpu_seconds_total 1\n',
      'vllm:num_requests_running 3\n',
      'vllm:num_requests_waiting NaN\n',
      'vllm:num_requests_waiting -1\n',
      '# vllm:num_requests_waiting 3\n',
      '<html>vllm:num_requests_waiting 3</html>',
    ])
      expect(readLoad(text)).toBeUndefined();
  });
});
