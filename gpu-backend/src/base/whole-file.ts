/** In a cached base's folder, written last: that the base is whole. A file of its own, since who looks for it early imports nothing else. */
export const WHOLE_FILE = 'signpost-manifest.json';
