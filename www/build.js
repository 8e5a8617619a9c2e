// `cargo xtask build --site` replaces this file. In development (`cargo xtask serve`) no file is kept offline, so that
// edits appear at the next load.
export const OFFLINE = false;
