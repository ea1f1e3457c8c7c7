/* edits.c - the methods of the JDK that call us, as they are in 17 to 25. See jvm.h for what the calls mean.
 *
 * ThreadPoolExecutor: execute(task) is where everything comes in but what ScheduledThreadPoolExecutor puts into its queue by itself
 * (FutureTasks, whose constructor is watched). runWorker() calls beforeExecute(thread, task), which subclasses override, right before each
 * task; getTask() is called right after each, and nothing else of the program in between but afterExecute().
 *
 * ForkJoinPool: every task of it is a ForkJoinTask and is run by doExec(), which lets no exception out.
 *
 * Tomcat has a copy of ThreadPoolExecutor.
 *
 * CompletableFuture: the stages are ForkJoinTasks too; tryFire() runs one, in whichever thread completes what it waits for. It lets no
 * exception out either. AsyncRun and AsyncSupply are run by executors of any kind.
 *
 * HttpClient: the selector's thread, which may be running already when we come, calls purgeTimeoutsAndReturnNextDeadline() before each
 * select(). Http1Exchange.sendHeadersAsync() is called for the request, when it has its connection.
 *
 * VirtualThread: runContinuation() runs on the carrier, around each mounting; unmount() at the end of each. */
#include "context/jvm/jvm.h"

#define OBJECT_0 CLASSFILE_LOCAL_0
#define COUNT(edits) edits, sizeof edits / sizeof *edits

static const struct classfile_edit pool[] = {
    {"execute", "(Ljava/lang/Runnable;)V", CLASSFILE_ENTRY, CLASSFILE_LOCAL_1, NULL, "given"},
    {"runWorker", NULL, CLASSFILE_BEFORE_CALL, CLASSFILE_TOP, "beforeExecute", "begins"},
    {"getTask", "()Ljava/lang/Runnable;", CLASSFILE_ENTRY, CLASSFILE_NOTHING, NULL, "ends"},
};

static const struct classfile_edit future_task[] = {
    {"<init>", NULL, CLASSFILE_RETURNS, OBJECT_0, NULL, "taskMade"},
    {"run", "()V", CLASSFILE_ENTRY, OBJECT_0, NULL, "taskRuns"},
    {"run", "()V", CLASSFILE_RETURNS, CLASSFILE_NOTHING, NULL, "returns"},
};

static const struct classfile_edit fork_join_task[] = {
    {"<init>", "()V", CLASSFILE_RETURNS, OBJECT_0, NULL, "stageMade"},
    {"doExec", NULL, CLASSFILE_ENTRY, OBJECT_0, NULL, "stageRuns"},
    {"doExec", NULL, CLASSFILE_RETURNS, OBJECT_0, NULL, "stageRan"},
};

static const struct classfile_edit async[] = {
    {"run", "()V", CLASSFILE_ENTRY, OBJECT_0, NULL, "stageRuns"},
    {"run", "()V", CLASSFILE_RETURNS, CLASSFILE_NOTHING, NULL, "returns"},
};

static const struct classfile_edit stage[] = {
    {"tryFire", "(I)Ljava/util/concurrent/CompletableFuture;", CLASSFILE_ENTRY, OBJECT_0, NULL, "stageRuns"},
    {"tryFire", "(I)Ljava/util/concurrent/CompletableFuture;", CLASSFILE_RETURNS, CLASSFILE_NOTHING, NULL, "returns"},
};

static const struct classfile_edit client[] = {
    {"purgeTimeoutsAndReturnNextDeadline", "()J", CLASSFILE_ENTRY, CLASSFILE_NOTHING, NULL, "selects"},
};
static const struct classfile_edit exchange[] = {
    {"sendHeadersAsync", NULL, CLASSFILE_ENTRY, OBJECT_0, NULL, "sends"},      /* on a connection that it kept */
    {"sendHeadersAsync", NULL, CLASSFILE_RETURNS, OBJECT_0, NULL, "connects"}, /* on one that it has begun to make */
};

static const struct classfile_edit queue[] = {
    {"take", NULL, CLASSFILE_ENTRY, CLASSFILE_NOTHING, NULL, "takes"},
    {"poll", NULL, CLASSFILE_ENTRY, CLASSFILE_NOTHING, NULL, "takes"},
};

#define VIRTUAL_THREAD(terminates)                                                                                                 \
    {                                                                                                                              \
        {"start", "(Ljdk/internal/vm/ThreadContainer;)V", CLASSFILE_ENTRY, OBJECT_0, NULL, "starts"},                              \
            {"runContinuation", "()V", CLASSFILE_ENTRY, OBJECT_0, NULL, "mounts"},                                                 \
            {"unmount", "()V", CLASSFILE_ENTRY, CLASSFILE_NOTHING, NULL, "unmounts"},                                              \
            {terminates, "()V", CLASSFILE_ENTRY, CLASSFILE_NOTHING, NULL, "terminates"},                                           \
    }
static const struct classfile_edit virtual_thread[] = VIRTUAL_THREAD("afterDone");
static const struct classfile_edit virtual_thread_first[] = VIRTUAL_THREAD("afterTerminate"); /* the first releases of 21 */

/* .count, .otherwise, .optional, .anywhere */
#define STAGE(name)                                                                                                                \
    {                                                                                                                              \
        "java/util/concurrent/CompletableFuture$" name, COUNT(stage), NULL, false, false                                           \
    }
#define QUEUE(name)                                                                                                                \
    {                                                                                                                              \
        "java/util/concurrent/" name, COUNT(queue), NULL, false, false                                                             \
    }

const struct jvm_class jvm_classes[] = {
    {"java/util/concurrent/ThreadPoolExecutor", COUNT(pool), NULL, false, false},
    {"java/util/concurrent/FutureTask", COUNT(future_task), NULL, false, false},
    {"java/util/concurrent/ForkJoinTask", COUNT(fork_join_task), NULL, false, false},
    {"java/util/concurrent/CompletableFuture$AsyncRun", COUNT(async), NULL, false, false},
    {"java/util/concurrent/CompletableFuture$AsyncSupply", COUNT(async), NULL, false, false},
    STAGE("UniApply"),
    STAGE("UniAccept"),
    STAGE("UniRun"),
    STAGE("UniWhenComplete"),
    STAGE("UniHandle"),
    STAGE("UniExceptionally"),
    {"java/util/concurrent/CompletableFuture$UniComposeExceptionally", COUNT(stage), NULL, true, false}, /* since 12 */
    STAGE("UniCompose"),
    STAGE("BiApply"),
    STAGE("BiAccept"),
    STAGE("BiRun"),
    STAGE("OrApply"),
    STAGE("OrAccept"),
    STAGE("OrRun"),
    QUEUE("LinkedBlockingQueue"),
    QUEUE("ArrayBlockingQueue"),
    QUEUE("LinkedBlockingDeque"),
    QUEUE("PriorityBlockingQueue"),
    QUEUE("DelayQueue"),
    QUEUE("LinkedTransferQueue"),
    {"jdk/internal/net/http/HttpClientImpl", COUNT(client), NULL, true, false},
    {"jdk/internal/net/http/Http1Exchange", COUNT(exchange), NULL, true, false},
    {"org/apache/tomcat/util/threads/ThreadPoolExecutor", COUNT(pool), NULL, true, true}, /* its own copy, since 10 */
    {"java/lang/VirtualThread", COUNT(virtual_thread), virtual_thread_first, true, false},
};
const size_t jvm_class_count = sizeof jvm_classes / sizeof *jvm_classes;
