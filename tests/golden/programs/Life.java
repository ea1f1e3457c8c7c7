import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

/**
 * A life in a few hundred milliseconds. Argument: "serve": pools are busy, a server begins to listen among them, answers itself, collects garbage and ends
 * with System.exit(7) in a handler. Or "work": the same without a server, and exit status 7 if nothing was put into java.util.concurrent.
 */
public class Life {
    public static void main(String[] args) throws Exception {
        Thread busy = new Thread(Life::work);
        busy.setDaemon(true);
        busy.start();
        if (args[0].equals("serve"))
            serve();
        Thread.sleep(200);
        System.exit(present() ? 1 : 7);
    }

    static boolean present() {
        try {
            return Class.forName("java.util.concurrent.OtshimContext", false, null) != null;
        } catch (ClassNotFoundException e) {
            return false;
        }
    }

    static void work() {
        ExecutorService pool = Executors.newFixedThreadPool(2);
        try {
            while (true) {
                pool.submit(() -> 1).get();
                CompletableFuture.supplyAsync(() -> 2).thenApplyAsync(n -> n + 1).thenCombine(CompletableFuture.runAsync(() -> { }), (n, m) -> n).get();
                CompletableFuture.supplyAsync(() -> { throw new IllegalStateException(); }).exceptionally(e -> 0).get();
            }
        } catch (Exception e) {
            e.printStackTrace();
        }
    }

    static void serve() throws Exception {
        HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", 0), 50);
        if (!present())
            System.exit(2);
        server.setExecutor(Executors.newFixedThreadPool(4));
        server.createContext("/", exchange -> {
            byte[] body = "ok".getBytes();
            exchange.sendResponseHeaders(200, body.length);
            exchange.getResponseBody().write(body);
            exchange.close();
            if (exchange.getRequestURI().getPath().equals("/exit"))
                System.exit(7);
        });
        server.start();
        String base = "http://127.0.0.1:" + server.getAddress().getPort();
        HttpClient client = HttpClient.newHttpClient();
        CompletableFuture<?>[] all = new CompletableFuture<?>[20];
        for (int i = 0; i < all.length; i++)
            all[i] = client.sendAsync(request(base + "/x"), BodyHandlers.ofString()).thenApplyAsync(response -> response.body());
        CompletableFuture.allOf(all).join();
        System.gc();
        client.sendAsync(request(base + "/exit"), BodyHandlers.ofString());
        Thread.sleep(5000);
        System.exit(3);
    }

    static HttpRequest request(String uri) {
        return HttpRequest.newBuilder(URI.create(uri)).build();
    }
}
