// Replaced by `cargo xtask build --site`. While the page is worked on (`cargo xtask serve`) nothing is kept offline, so that
// an edit shows at the next load.
export const OFFLINE = false;
