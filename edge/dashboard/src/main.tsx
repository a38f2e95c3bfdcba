/**
 * The console: one page over the edge's own API (docs/console.md).
 */
import './style.css';
import { render } from 'preact';
import { App } from './app.tsx';

const root = document.querySelector('#console');
if (root !== null) render(<App />, root);
