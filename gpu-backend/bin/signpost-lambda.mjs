#!/usr/bin/env node
// Entry of a Lambda function's container image. Sources run as they are, through tsx.
import { register } from 'tsx/esm/api';

register();
await import('../src/lambda.ts');
