package springstorm; // not the default one, in which Spring would look through all that there is

import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.ThreadLocalRandom;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.http.client.JdkClientHttpRequestFactory;
import org.springframework.scheduling.concurrent.ThreadPoolTaskExecutor;
import org.springframework.web.bind.annotation.GetMapping;
import org.springframework.web.bind.annotation.PathVariable;
import org.springframework.web.bind.annotation.RequestParam;
import org.springframework.web.bind.annotation.RestController;
import org.springframework.web.client.RestClient;
import org.springframework.web.client.RestTemplate;
import org.springframework.web.context.request.async.DeferredResult;

/**
 * Spring Boot on Tomcat. Argument: the port.
 *
 * <pre>
 * template  RestTemplate (HttpURLConnection) in the controller
 * rest      RestClient on java.net.http.HttpClient
 * callable  the controller returns a Callable: Spring runs it in an executor
 * deferred  the controller returns a DeferredResult, which a ThreadPoolTaskExecutor's task sets
 * submitted each call is submitted to a ThreadPoolTaskExecutor
 * future    the controller returns a CompletableFuture of stages on the common pool
 * async     ... of HttpClient.sendAsync
 * </pre>
 */
@SpringBootApplication
@RestController
public class SpringStorm {
    static final String LEAF = "http://127.0.0.1:" + System.getenv("LEAF_PORT");
    static final HttpClient client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
    final RestTemplate template = new RestTemplate();
    final RestClient rest = RestClient.builder().requestFactory(new JdkClientHttpRequestFactory(client)).build();
    final ThreadPoolTaskExecutor pool = new ThreadPoolTaskExecutor();

    SpringStorm() {
        pool.setCorePoolSize(8);
        pool.setDaemon(true);
        pool.initialize();
    }

    public static void main(String[] args) {
        SpringApplication application = new SpringApplication(SpringStorm.class);
        application.setDefaultProperties(Map.of("server.port", args[0], "server.address", "127.0.0.1", "spring.main.banner-mode", "off",
            "logging.level.root", "WARN", "server.tomcat.accept-count", "511"));
        application.run(args);
    }

    record Plan(String ident, int calls, int ms) {
        String url(int number) {
            return LEAF + "/" + ident + "/" + number + "?ms=" + ms;
        }

        void check(int number, String body) {
            if (!body.strip().equals("/" + ident + "/" + number))
                throw new IllegalStateException("asked for " + number + " of " + ident + ", got " + body);
        }
    }

    interface Call {
        String get(String url) throws Exception;
    }

    static String all(Plan plan, Call call) throws Exception {
        for (int n = 0; n < plan.calls; n++) {
            if (plan.ms > 0)
                Thread.sleep(ThreadLocalRandom.current().nextInt(plan.ms + 1));
            plan.check(n, call.get(plan.url(n)));
        }
        return plan.ident + "\n";
    }

    String get(String url) {
        return template.getForObject(url, String.class);
    }

    @GetMapping("/template/{ident}")
    String template(@PathVariable("ident") String ident, @RequestParam("calls") int calls, @RequestParam("ms") int ms) throws Exception {
        return all(new Plan(ident, calls, ms), this::get);
    }

    @GetMapping("/rest/{ident}")
    String rest(@PathVariable("ident") String ident, @RequestParam("calls") int calls, @RequestParam("ms") int ms) throws Exception {
        return all(new Plan(ident, calls, ms), url -> rest.get().uri(url).retrieve().body(String.class));
    }

    @GetMapping("/callable/{ident}")
    Callable<String> callable(@PathVariable("ident") String ident, @RequestParam("calls") int calls, @RequestParam("ms") int ms) {
        return () -> all(new Plan(ident, calls, ms), this::get);
    }

    @GetMapping("/deferred/{ident}")
    DeferredResult<String> deferred(@PathVariable("ident") String ident, @RequestParam("calls") int calls, @RequestParam("ms") int ms) {
        DeferredResult<String> result = new DeferredResult<>();
        pool.execute(() -> {
            try {
                result.setResult(all(new Plan(ident, calls, ms), this::get));
            } catch (Exception e) {
                result.setErrorResult(e);
            }
        });
        return result;
    }

    @GetMapping("/submitted/{ident}")
    String submitted(@PathVariable("ident") String ident, @RequestParam("calls") int calls, @RequestParam("ms") int ms) throws Exception {
        return all(new Plan(ident, calls, ms), url -> pool.submit(() -> get(url)).get());
    }

    @GetMapping("/future/{ident}")
    CompletableFuture<String> future(@PathVariable("ident") String ident, @RequestParam("calls") int calls, @RequestParam("ms") int ms) {
        Plan plan = new Plan(ident, calls, ms);
        CompletableFuture<String> last = CompletableFuture.supplyAsync(() -> get(plan.url(0)));
        for (int n = 1; n < calls; n++) {
            int number = n;
            last = last.thenApply(body -> get(plan.url(number)));
        }
        return last.thenApply(body -> ident + "\n");
    }

    @GetMapping("/async/{ident}")
    CompletionStage<String> async(@PathVariable("ident") String ident, @RequestParam("calls") int calls, @RequestParam("ms") int ms) {
        Plan plan = new Plan(ident, calls, ms);
        CompletableFuture<HttpResponse<String>> last = send(plan.url(0));
        for (int n = 1; n < calls; n++) {
            int number = n;
            last = last.thenCompose(response -> send(plan.url(number)));
        }
        return last.thenApply(response -> ident + "\n");
    }

    static CompletableFuture<HttpResponse<String>> send(String url) {
        return client.sendAsync(HttpRequest.newBuilder(URI.create(url)).build(), HttpResponse.BodyHandlers.ofString());
    }
}
