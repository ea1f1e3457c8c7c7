import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.io.InputStream;
import java.net.HttpURLConnection;
import java.net.InetSocketAddress;
import java.net.URL;
import java.net.URLDecoder;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.Executors;

/** The JDK's own HTTP server on a pool of threads, calling out with HttpURLConnection. Argument: the port. */
public class Server {
    public static void main(String[] args) throws IOException {
        HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", Integer.parseInt(args[0])), 64);
        server.setExecutor(Executors.newFixedThreadPool(8));
        server.createContext("/", Server::handle);
        server.start();
    }

    static void handle(HttpExchange exchange) throws IOException {
        StringBuilder answer = new StringBuilder(exchange.getRequestURI().getPath()).append('\n');
        String query = exchange.getRequestURI().getRawQuery();
        int status = 200;
        for (String pair : query == null ? new String[0] : query.split("&")) {
            if (!pair.startsWith("url="))
                continue;
            try {
                answer.append(get(URLDecoder.decode(pair.substring(4), StandardCharsets.UTF_8)));
            } catch (IOException e) {
                status = 502;
                answer.append(e.getMessage()).append('\n');
            }
        }
        byte[] body = answer.toString().getBytes(StandardCharsets.UTF_8);
        exchange.sendResponseHeaders(status, body.length);
        exchange.getResponseBody().write(body);
        exchange.close();
    }

    static String get(String url) throws IOException {
        HttpURLConnection connection = (HttpURLConnection) new URL(url).openConnection();
        try (InputStream in = connection.getInputStream()) {
            return connection.getResponseCode() + " " + new String(in.readAllBytes(), StandardCharsets.UTF_8);
        }
    }
}
