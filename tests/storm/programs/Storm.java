import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.io.InputStream;
import java.net.HttpURLConnection;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.URL;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.ThreadLocalRandom;
import java.util.stream.IntStream;

/**
 * The JDK's own HTTP server on a pool of threads. Arguments: the port; the number of threads, 0 for as many as it takes, or -1 for a virtual thread
 * for each request (Java 21).
 *
 * <pre>
 * url      HttpURLConnection, which keeps its connections
 * client   java.net.http.HttpClient, waiting for the answer
 * async    HttpClient.sendAsync; the last answer's callback sends the response
 * future   each call in a CompletableFuture on a second pool (HttpURLConnection)
 * stages   the whole request is handed to a second pool, which answers it too
 * same     the whole request is given back to the pool that read it: any of its threads may take it up
 * common   each call in a CompletableFuture on the common ForkJoinPool, and the next one in a stage of it
 * parallel the calls in a parallel stream
 * shared   one Runnable for all requests is given to a second pool; it takes what it does from a queue
 * virtual  each call in a virtual thread of its own (Java 21)
 * </pre>
 */
public class Storm {
    static final String LEAF = "http://127.0.0.1:" + System.getenv("LEAF_PORT");
    static ExecutorService first;
    static final ExecutorService second = Executors.newFixedThreadPool(8);
    static final ExecutorService virtuals = Runtime.version().feature() >= 21 ? virtual() : null;
    static final ConcurrentLinkedQueue<Runnable> queue = new ConcurrentLinkedQueue<>();
    static final Runnable SHARED = () -> queue.remove().run();
    static final HttpClient client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();

    public static void main(String[] args) throws IOException {
        System.setProperty("sun.net.httpserver.nodelay", "true");
        int threads = Integer.parseInt(args[1]);
        HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", Integer.parseInt(args[0])), 511);
        first = threads > 0 ? Executors.newFixedThreadPool(threads) : threads == 0 ? Executors.newCachedThreadPool() : virtual();
        server.setExecutor(first);
        server.createContext("/", Storm::handle);
        server.start();
    }

    /** This is compiled for Java 17 too. */
    static ExecutorService virtual() {
        try {
            return (ExecutorService) Executors.class.getMethod("newVirtualThreadPerTaskExecutor").invoke(null);
        } catch (ReflectiveOperationException e) {
            throw new IllegalStateException(e);
        }
    }

    record Plan(String kind, String ident, int calls, int ms) {
        static Plan of(URI uri) {
            String[] parts = uri.getPath().split("/");
            return new Plan(parts[1], parts[2], number(uri, "calls="), number(uri, "ms="));
        }

        static int number(URI uri, String name) {
            for (String pair : uri.getQuery().split("&"))
                if (pair.startsWith(name))
                    return Integer.parseInt(pair.substring(name.length()));
            return 0;
        }

        String path(int number) {
            return "/" + ident + "/" + number;
        }

        void check(int number, String body) {
            if (!body.strip().equals(path(number)))
                throw new IllegalStateException("asked for " + path(number) + ", got " + body);
        }
    }

    static void handle(HttpExchange exchange) throws IOException {
        Plan plan = Plan.of(exchange.getRequestURI());
        switch (plan.kind) {
            case "async" -> async(exchange, plan, 0);
            case "same" -> first.execute(() -> work(exchange, plan));
            case "stages" -> second.execute(() -> work(exchange, plan));
            case "common" -> common(exchange, plan);
            case "parallel" -> {
                IntStream.range(0, plan.calls).parallel().forEach(n -> url(plan, n));
                answer(exchange, plan, true);
            }
            case "shared" -> {
                queue.add(() -> work(exchange, plan));
                second.execute(SHARED);
            }
            default -> work(exchange, plan);
        }
    }

    static void work(HttpExchange exchange, Plan plan) {
        boolean good = true;
        try {
            for (int n = 0; n < plan.calls; n++) {
                nap(plan.ms);
                call(plan, n);
            }
        } catch (Exception e) {
            e.printStackTrace();
            good = false;
        }
        answer(exchange, plan, good);
    }

    static void call(Plan plan, int number) throws Exception {
        switch (plan.kind) {
            case "client" -> plan.check(number, client.send(request(plan, number), HttpResponse.BodyHandlers.ofString()).body());
            case "virtual" -> virtuals.submit(() -> url(plan, number)).get();
            case "future" -> CompletableFuture.runAsync(() -> url(plan, number), second).join();
            default -> url(plan, number);
        }
    }

    static void common(HttpExchange exchange, Plan plan) {
        CompletableFuture<Void> last = CompletableFuture.runAsync(() -> url(plan, 0));
        for (int n = 1; n < plan.calls; n++) {
            int number = n;
            last = n % 2 == 0 ? last.thenRunAsync(() -> url(plan, number)) : last.thenRun(() -> url(plan, number));
        }
        last.whenComplete((nothing, failure) -> answer(exchange, plan, failure == null));
    }

    static void async(HttpExchange exchange, Plan plan, int number) {
        if (number == plan.calls) {
            answer(exchange, plan, true);
            return;
        }
        client.sendAsync(request(plan, number), HttpResponse.BodyHandlers.ofString()).whenComplete((response, failure) -> {
            if (failure != null || !response.body().strip().equals(plan.path(number)))
                answer(exchange, plan, false);
            else
                async(exchange, plan, number + 1);
        });
    }

    static HttpRequest request(Plan plan, int number) {
        return HttpRequest.newBuilder(URI.create(LEAF + plan.path(number) + "?ms=" + plan.ms)).build();
    }

    static void url(Plan plan, int number) {
        try {
            HttpURLConnection connection = (HttpURLConnection) new URL(LEAF + plan.path(number) + "?ms=" + plan.ms).openConnection();
            try (InputStream in = connection.getInputStream()) {
                plan.check(number, new String(in.readAllBytes()));
            }
        } catch (IOException e) {
            throw new IllegalStateException(e);
        }
    }

    static void answer(HttpExchange exchange, Plan plan, boolean good) {
        byte[] body = (plan.ident + "\n").getBytes();
        try (exchange) {
            exchange.sendResponseHeaders(good ? 200 : 502, body.length);
            exchange.getResponseBody().write(body);
        } catch (IOException e) {
            e.printStackTrace();
        }
    }

    static void nap(int ms) throws InterruptedException {
        if (ms > 0)
            Thread.sleep(ThreadLocalRandom.current().nextInt(ms + 1));
    }
}
