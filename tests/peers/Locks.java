// A peer for probe.c: Java's FileChannel.tryLock on one path. Locks.java PATH
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.channels.FileChannel;
import java.nio.channels.FileLock;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;

class Locks {
	public static void main(String[] arguments) throws Exception {
		BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
		FileChannel channel = null;
		FileLock lock = null;
		for (String line; (line = lines.readLine()) != null; ) {
			switch (line) {
			case "take":
				channel = FileChannel.open(Path.of(arguments[0]), StandardOpenOption.CREATE,
					StandardOpenOption.WRITE);
				lock = channel.tryLock();
				System.out.println(lock != null ? "held" : "busy tryLock() returns null");
				break;
			case "unlock":
				lock.release();
				System.out.println("done");
				break;
			default:
				channel.close();
				System.out.println("done");
			}
		}
	}
}
