/* test_exporter_resource.c - what a process is called, and what else is said of it. */
#include "trace/container.h"
#include "trace/resource.h"
#include "trace/uuid.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* Words are separated by blanks; "~" stands for a blank inside one. */
static size_t command_line(const char *words, char out[1024])
{
    size_t len = strlen(words);
    memcpy(out, words, len + 1);
    for (size_t i = 0; i < len; i++)
        out[i] = out[i] == ' ' ? '\0' : out[i] == '~' ? ' ' : out[i];
    return len > 0 ? len + 1 : 0;
}

static void test_program_names(void **unused)
{
    (void)unused;
    static const char *const cases[][3] = {
        /* executable, command line, name */
        {"/usr/sbin/nginx", "nginx:~worker~process", "nginx"},
        {"/opt/shop/bin/checkout (deleted)", "./checkout", "checkout"},
        {"", "/opt/x/prog -v", "prog"},
        {"", "-bash", "bash"},
        {"", "", "unknown_service"},
        {NULL, NULL, "unknown_service"},
        {"/bin/busybox", "httpd -f", "httpd"},
        {"/usr/sbin/php-fpm8.2", "php-fpm:~pool~www", "php-fpm8.2"},
        {"/usr/bin/python3.11", "python3 src/main.py", "main"},
        {"/usr/bin/python3.11", "python3 -u -Wignore -X dev -B /srv/shop/app.py --port 80", "app"},
        {"/usr/bin/python3.11", "python3 -m http.server 8000", "http.server"},
        {"/usr/bin/python3.11", "python3 -mhttp.server", "http.server"},
        {"/usr/bin/python3.11", "python3 -um shop.main", "shop.main"},
        {"/usr/bin/python3.11", "python3 -c print(1) x.py", "python"},
        {"/usr/bin/python3.11", "python3", "python"},
        {"/usr/bin/python3.11", "python3 -m", "python"},
        {"/usr/bin/python3.11", "python3 /srv/shop/__main__.py", "shop"},
        {"/usr/bin/python3.11", "python3 ./__main__.py", "__main__"},
        {"/usr/bin/python3.11", "python3 -- -odd.py", "-odd"},
        {"/usr/bin/python3.11", "/usr/bin/python3 /usr/bin/gunicorn -w 2 -b 127.0.0.1:8000 flask_app:app", "gunicorn:flask_app"},
        {"/usr/bin/python3.11", "python3 /usr/bin/gunicorn --bind unix:/run/x shop.web:create_app() -k gevent",
         "gunicorn:shop.web"},
        {"/usr/bin/python3.11", "python3 -m gunicorn app:app", "gunicorn:app"},
        {"/usr/bin/python3.11", "python3 /usr/bin/uvicorn --host localhost --port 1 main:app", "uvicorn:main"},
        {"/usr/bin/python3.11", "python3 /usr/bin/gunicorn -c conf.py", "gunicorn"},
        {"/usr/bin/uwsgi-core", "uwsgi --http :80 -w shop:application", "uwsgi-core:shop"},
        {"/usr/bin/ruby3.1", "ruby -W0 -I lib app.rb", "app"},
        {"/usr/bin/ruby3.1", "ruby -e puts(1)", "ruby"},
        {"/usr/bin/ruby3.1", "/usr/bin/ruby /usr/bin/puma -p 80 config.ru", "puma"},
        {"/usr/bin/node", "node --max-old-space-size=100 -r ./tracing.js server.js", "server"},
        {"/usr/bin/node", "node --require x dist/index.js", "dist"},
        {"/usr/bin/node", "node index.js", "index"},
        {"/usr/bin/node", "node -e 1", "node"},
        {"/usr/bin/php8.2", "php -d a=b worker.php", "worker"},
        {"/usr/bin/php8.2", "php -S 127.0.0.1:80 -t public", "php"},
        {"/usr/bin/php8.2", "php -f job.php", "job"},
        {"/usr/bin/perl", "perl -Ilib -MData::Dumper daemon.pl", "daemon"},
        {"/usr/bin/dash", "sh /entrypoint.sh", "entrypoint"},
        {"/usr/bin/bash", "bash -c sleep~1", "bash"},
        {"/usr/bin/deno", "deno run main.ts", "main"},
        {"/usr/lib/jvm/java-17/bin/java", "java -Xmx1g -jar /opt/shop-1.2.jar --port 1", "shop-1.2"},
        {"/usr/lib/jvm/java-17/bin/java", "java -cp a.jar:b.jar --add-opens java.base/x=ALL com.example.Main x",
         "com.example.Main"},
        {"/usr/lib/jvm/java-17/bin/java", "java Server.java 8080", "Server"},
        {"/usr/lib/jvm/java-17/bin/java", "java -p mods -m shop.app/shop.Main", "shop.app"},
        {"/usr/lib/jvm/java-17/bin/java", "java -version", "java"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char line[1024], name[256];
        size_t len = cases[i][1] != NULL ? command_line(cases[i][1], line) : 0;
        size_t got = resource_program_name(cases[i][0], cases[i][1] != NULL ? line : NULL, len, name, sizeof name);
        if (strcmp(name, cases[i][2]) != 0 || got != strlen(name))
            fail_msg("%s: %s, not %s", cases[i][1], name, cases[i][2]);
    }
    char small[4];
    assert_int_equal(resource_program_name("/usr/bin/longname", NULL, 0, small, sizeof small), 3);
    /* a word that was cut is no name */
    assert_int_equal(resource_program_name("/usr/bin/python3", "python3\0/srv/ma", 15, small, sizeof small), 3);
    assert_string_equal(small, "pyt");
}

static const char *value(const struct resource *resource, const char *key)
{
    static char number[32];
    for (size_t i = 0; i < resource->attribute_count; i++) {
        const struct attribute *a = &resource->attributes[i];
        if (strcmp(a->key, key) != 0)
            continue;
        if (a->type == VALUE_STRING)
            return a->value.string;
        snprintf(number, sizeof number, "%lld", (long long)a->value.integer);
        return number;
    }
    return "(none)";
}

static void test_attributes(void **unused)
{
    (void)unused;
    char pid[32], parent[32], host[256] = "";
    struct resource_input in = {.pid = getpid(),
                                .peer_pid = (uint32_t)getpid(),
                                .start_ticks = 99,
                                .executable = "/opt/shop/checkout",
                                .library_version = "9.9"};
    struct resource *resource = resource_make(&in);
    snprintf(pid, sizeof pid, "%d", (int)getpid());
    snprintf(parent, sizeof parent, "%d", (int)getppid());
    gethostname(host, sizeof host - 1);
    assert_string_equal(resource->service_name, "checkout");
    assert_int_equal(resource->pid, getpid());
    assert_string_equal(value(resource, "service.name"), "checkout");
    assert_string_equal(value(resource, "process.pid"), pid);
    assert_string_equal(value(resource, "process.parent_pid"), parent);
    assert_string_equal(value(resource, "process.executable.name"), "checkout");
    assert_string_equal(value(resource, "process.executable.path"), "/opt/shop/checkout");
    assert_string_equal(value(resource, "host.name"), host);
    assert_string_equal(value(resource, "telemetry.sdk.name"), "otshim");
    assert_string_equal(value(resource, "telemetry.sdk.language"), "c");
    assert_string_equal(value(resource, "telemetry.sdk.version"), "9.9");
    assert_string_equal(value(resource, "telemetry.distro.name"), "otshim");
    /* the same process again, and another one */
    struct resource *again = resource_make(&in);
    in.start_ticks = 100;
    struct resource *other = resource_make(&in);
    assert_int_equal(strlen(value(resource, "service.instance.id")), 36);
    assert_string_equal(value(resource, "service.instance.id"), value(again, "service.instance.id"));
    assert_string_not_equal(value(resource, "service.instance.id"), value(other, "service.instance.id"));
    resource_unref(resource);
    resource_unref(again);
    resource_unref(other);
}

static void test_environment(void **unused)
{
    (void)unused;
    static const char *const cases[][5] = {
        /* OTEL_RESOURCE_ATTRIBUTES, OTEL_SERVICE_NAME, then service.name and two values: of "a" and "host.name" */
        {"service.name=env,a=1", "", "env", "1", NULL},
        {"service.name=env,a=1", "given", "given", "1", NULL},
        {"service.name=,a=%20x%2Cy%3d ", NULL, "prog", " x,y=", NULL},
        {"a = 1 ,, host.name=mine,", NULL, "prog", "1", "mine"},
        {"a=1,a=2", NULL, "prog", "2", NULL},
        {"a=b=c", NULL, "prog", "b=c", NULL},
        {"telemetry.sdk.name=fake,a=1", NULL, "prog", "1", NULL},
        {"a=1,nonsense", NULL, "prog", "(none)", NULL},
        {"a=%zz", NULL, "prog", "(none)", NULL},
        {"a=1,b=%4", NULL, "prog", "(none)", NULL},
        {"a=1,=2", NULL, "prog", "(none)", NULL},
        {"", "", "prog", "(none)", NULL},
        {"a=\xff", NULL, "prog", "\xef\xbf\xbd", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct resource *resource = resource_make(
            &(struct resource_input){.executable = "/bin/prog", .resource_attributes = cases[i][0], .service_name = cases[i][1]});
        assert_string_equal(resource->service_name, cases[i][2]);
        assert_string_equal(value(resource, "service.name"), cases[i][2]);
        assert_string_equal(value(resource, "a"), cases[i][3]);
        if (cases[i][4] != NULL)
            assert_string_equal(value(resource, "host.name"), cases[i][4]);
        assert_string_equal(value(resource, "telemetry.sdk.name"), "otshim");
        resource_unref(resource);
    }
    /* more than there is room for */
    static char many[8192];
    for (int k = 0, len = 0; k < 400; k++)
        len += sprintf(many + len, "k%d=%d,", k, k);
    struct resource *resource = resource_make(&(struct resource_input){.executable = "/bin/prog", .resource_attributes = many});
    assert_string_equal(value(resource, "k100"), "100");
    assert_string_equal(resource->service_name, "prog");
    resource_unref(resource);
}

#define ID "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void test_containers(void **unused)
{
    (void)unused;
    static const struct {
        bool (*read)(FILE *, char *);
        const char *text, *id;
    } cases[] = {
        {container_id_from_cgroup, "0::/system.slice/docker-" ID ".scope\n", ID},
        {container_id_from_cgroup, "12:cpu:/docker/" ID "\n0::/\n", ID},
        {container_id_from_cgroup, "0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-" ID ".scope\n", ID},
        {container_id_from_cgroup, "0::/kubepods/besteffort/pod0f2ccd6f-3a43-4a3c-a7c5-2ba1d2bc4a7e/" ID "\n", ID},
        {container_id_from_cgroup, "0::/machine.slice/libpod-" ID ".scope/container\n", ID},
        {container_id_from_cgroup, "0::/user.slice/user-1000.slice/session-1.scope\n", NULL},
        {container_id_from_cgroup, "0::/x" ID "a\n", NULL},
        {container_id_from_cgroup, "", NULL},
        {container_id_from_mountinfo, "1 2 0:1 /var/lib/docker/containers/" ID "/hostname /etc/hostname rw - ext4 /dev/sda1 rw\n",
         ID},
        {container_id_from_mountinfo,
         "1 2 0:1 /containers/storage/overlay-containers/" ID "/userdata/hosts /etc/hosts rw - x y z\n", ID},
        {container_id_from_mountinfo, "1 2 0:1 / /var/lib/docker/containers/" ID "/mounts/shm rw - tmpfs shm rw\n", NULL},
        {container_id_from_mountinfo, "1 2 0:1 /io.containerd.grpc.v1.cri/sandboxes/" ID "/hostname /etc/hostname rw - x y z\n",
         NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char id[CONTAINER_ID_TEXT] = "";
        FILE *file = fmemopen((void *)(uintptr_t)cases[i].text, strlen(cases[i].text) + (*cases[i].text == '\0'), "r");
        assert_int_equal(cases[i].read(file, id), cases[i].id != NULL);
        if (cases[i].id != NULL)
            assert_string_equal(id, cases[i].id);
        fclose(file);
    }
}

/* RFC 9562 A.4: version 5 of "www.example.com" in the DNS namespace. RFC 3174's own vectors for the digest. */
static void test_uuid(void **unused)
{
    (void)unused;
    static const uint8_t dns[16] = {0x6b, 0xa7, 0xb8, 0x10, 0x9d, 0xad, 0x11, 0xd1, 0x80, 0xb4, 0x00, 0xc0, 0x4f, 0xd4, 0x30, 0xc8};
    static const uint8_t abc[20] = {0xa9, 0x99, 0x3e, 0x36, 0x47, 0x06, 0x81, 0x6a, 0xba, 0x3e,
                                    0x25, 0x71, 0x78, 0x50, 0xc2, 0x6c, 0x9c, 0xd0, 0xd8, 0x9d};
    static const uint8_t two_blocks[20] = {0x84, 0x98, 0x3e, 0x44, 0x1c, 0x3b, 0xd2, 0x6e, 0xba, 0xae,
                                           0x4a, 0xa1, 0xf9, 0x51, 0x29, 0xe5, 0xe5, 0x46, 0x70, 0xf1};
    char text[UUID_TEXT];
    uint8_t digest[20];
    uuid_v5(dns, "www.example.com", 15, text);
    assert_string_equal(text, "2ed6657d-e927-568b-95e1-2665a8aea6a2");
    uuid_sha1("abc", 3, digest);
    assert_memory_equal(digest, abc, 20);
    uuid_sha1("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56, digest);
    assert_memory_equal(digest, two_blocks, 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_program_names), cmocka_unit_test(test_attributes), cmocka_unit_test(test_environment),
        cmocka_unit_test(test_containers),    cmocka_unit_test(test_uuid),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
