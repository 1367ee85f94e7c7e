import java.lang.invoke.MethodHandle;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.MethodType;
import java.security.MessageDigest;
import java.util.HexFormat;
import java.util.concurrent.Callable;
import java.util.concurrent.Executors;

/** HotSpot's compilers, and what makes them give up their code: classes that come late, traps not met before. */
public class Main {
    abstract static class Shape {
        abstract long area(long n);
    }

    // As long as one subclass is loaded, a call of the abstract method is compiled as one of its method.
    static final class Square extends Shape {
        long area(long n) { return n * n; }
    }

    static final class Strip extends Shape {
        long area(long n) { return 3 * n; }
    }

    static final class Line extends Shape {
        long area(long n) { return n; }
    }

    static final class Point extends Shape {
        long area(long n) { return 1; }
    }

    static final String[] NAMES = {"Square", "Strip", "Line", "Point"};
    static final Shape[] SHAPES = new Shape[NAMES.length];
    /** How many of the shapes there are. */
    static volatile int published;

    static long total(Shape shape) {
        long sum = 0;
        for (int n = 0; n < 1024; n++) sum += shape.area(n);
        return sum;
    }

    /** Threads run the code that the loading of a class gives up under their feet. */
    static String lateClasses() throws Exception {
        Callable<String> work = () -> {
            StringBuilder sums = new StringBuilder();
            for (int stage = 0; stage < NAMES.length; stage++) {
                while (published <= stage) Thread.onSpinWait();
                long first = total(SHAPES[stage]);
                // Until the next class is there; the last one is run for as long as the compilers may take.
                for (int rounds = 0; stage + 1 < NAMES.length ? published == stage + 1 : rounds < 2000; rounds++) {
                    long sum = total(SHAPES[stage]);
                    if (sum != first) throw new AssertionError(NAMES[stage] + ": " + sum + " after " + first);
                }
                sums.append(' ').append(first);
            }
            return sums.toString();
        };
        try (var threads = Executors.newFixedThreadPool(2)) {
            var first = threads.submit(work);
            var second = threads.submit(work);
            for (String name : NAMES) {
                SHAPES[published] = (Shape) Class.forName("Main$" + name).getDeclaredConstructor().newInstance();
                published++;
                Thread.sleep(1000);
            }
            return first.get() + second.get();
        }
    }

    static final class Box {
        final int value;

        Box(int value) { this.value = value; }
    }

    /** What compiled code leaves to the hardware (null) or to a trap (bounds, overflow, class) comes late. */
    static long traps() {
        Box[] boxes = new Box[1000];
        for (int i = 0; i < boxes.length; i++) boxes[i] = new Box(i);
        long sum = 0;
        for (int i = 0; i < 400000; i++) {
            int late = i < 200000 ? 0 : i % 5000;
            try {
                switch (late) {
                    case 1 -> boxes[i % 1000] = null;
                    case 2 -> boxes[(i - 1) % 1000] = new Box(i & 1023);
                    default -> { }
                }
                sum += boxes[i % 1000].value;
                sum += boxes[late == 3 ? i : i % 1000].value;
                sum += Math.multiplyExact(late == 4 ? 1 << 20 : 5, i);
                sum += ((Number) (late == 5 ? (Object) "text" : (Object) i)).intValue();
            } catch (NullPointerException error) {
                sum += 1;
            } catch (ArrayIndexOutOfBoundsException error) {
                sum += 2;
            } catch (ArithmeticException error) {
                sum += 3;
            } catch (ClassCastException error) {
                sum += 4;
            }
        }
        return sum;
    }

    static long multiply(long factor, long value) { return factor * value % 1000003; }

    static long add(long value, long summand) { return value + summand; }

    /** Method handles, each a class of its own, hot for a moment. */
    static long handles() throws Throwable {
        var lookup = MethodHandles.lookup();
        var type = MethodType.methodType(long.class, long.class, long.class);
        MethodHandle multiply = lookup.findStatic(Main.class, "multiply", type);
        MethodHandle add = lookup.findStatic(Main.class, "add", type);
        long sum = 0;
        for (int i = 0; i < 40; i++) {
            MethodHandle handle = MethodHandles.insertArguments(multiply, 0, (long) i + 2);
            for (int depth = 0; depth < i % 7; depth++) {
                handle = MethodHandles.filterReturnValue(handle, MethodHandles.insertArguments(add, 1, (long) depth));
            }
            long value = i;
            for (int k = 0; k < 5000; k++) value = (long) handle.invokeExact(value + k);
            sum += value;
        }
        return sum;
    }

    static String digest() throws Exception {
        byte[] bytes = new byte[1 << 20];
        for (int i = 0; i < bytes.length; i++) bytes[i] = (byte) (i * 7 + (i >> 8));
        byte[] hash = new byte[0];
        for (int round = 0; round < 8; round++) {
            bytes[round] ^= 1;
            hash = MessageDigest.getInstance("SHA-256").digest(bytes);
        }
        return HexFormat.of().formatHex(hash);
    }

    public static void main(String[] words) throws Throwable {
        System.out.println("lateClasses" + lateClasses());
        System.out.println("traps " + traps());
        System.out.println("handles " + handles());
        System.out.println("digest " + digest());
    }
}
