// A peer for probe.c: proper-lockfile on one path, which it makes a folder. locks.js PATH
const lockfile = require("proper-lockfile");
const path = process.argv[2];
let release;

async function obey(order) {
	if (order === "close") {
		await release();
		return "done";
	}
	if (order !== "take")
		return "cannot";
	try {
		release = await lockfile.lock(path, { realpath: false, lockfilePath: path, retries: 0 });
		return "held";
	} catch (error) {
		return "busy " + error.code + ": " + error.message.replace(path, "PATH");
	}
}

require("readline").createInterface({ input: process.stdin }).on("line", async (order) => {
	console.log(await obey(order));
});
