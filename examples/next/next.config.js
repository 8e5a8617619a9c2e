// Static files, for any server; without this line `next start` serves it.
export default { output: "export" };
