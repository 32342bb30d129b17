/* workers.c - tandem workers: who serves what, how fast, and who holds the others up; adding and draining workers while requests run. */
#include <stdio.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "options.h"
#include "verbs.h"

static double number(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsNumber(item) ? item->valuedouble : 0;
}

static const char *text(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsString(item) ? item->valuestring : "";
}

/* How many experts two workers share, by name those of the layer that has most. */
static void print_replicas(const cJSON *root)
{
    const cJSON *layer, *entry, *most = NULL;
    int experts = 0, layers = 0;
    cJSON_ArrayForEach(layer, cJSON_GetObjectItemCaseSensitive(root, "layers"))
    {
        const cJSON *list = cJSON_GetObjectItemCaseSensitive(layer, "replicas");
        int count = cJSON_GetArraySize(list);
        experts += count;
        layers += count > 0;
        if (count > 0 && (!most || count > cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(most, "replicas")))) most = layer;
    }
    if (!most) return;
    printf("replicas: %d hot experts of %d layers are computed by two workers each; layer %.0f has", experts, layers, number(most, "layer"));
    cJSON_ArrayForEach(entry, cJSON_GetObjectItemCaseSensitive(most, "replicas"))
    {
        const cJSON *expert = cJSON_GetArrayItem(entry, 0), *one = cJSON_GetArrayItem(entry, 1), *other = cJSON_GetArrayItem(entry, 2);
        if (cJSON_IsNumber(expert) && cJSON_IsString(one) && cJSON_IsString(other)) printf(" %d (%s and %s)", expert->valueint, one->valuestring, other->valuestring);
    }
    printf("\n");
}

static void print_crew(const cJSON *root)
{
    const cJSON *worker, *straggler = cJSON_GetObjectItemCaseSensitive(root, "straggler");
    printf("%-24s %-10s %-10s %-10s %9s %9s %8s %8s %8s %8s %8s %6s %6s\n", "worker", "state", "layers", "experts", "answers", "rows", "ping us", "out us", "queue us", "comp us", "back us", "lost", "shared");
    cJSON_ArrayForEach(worker, cJSON_GetObjectItemCaseSensitive(root, "workers"))
    {
        printf("%-24s %-10s %-10s %-10s %9.0f %9.0f %8.0f %8.0f %8.0f %8.0f %8.0f %6.0f %6.0f\n", text(worker, "address"), text(worker, "state"), text(worker, "layers"), text(worker, "experts"),
               number(worker, "answers"), number(worker, "rows"), number(worker, "round_trip_us"), number(worker, "out_us"), number(worker, "queue_us"), number(worker, "compute_us"),
               number(worker, "back_us"), number(worker, "lost"), number(worker, "experts_shared"));
        if (text(worker, "why")[0]) printf("    %s\n", text(worker, "why"));
    }
    if (cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(root, "degraded"))) printf("degraded: %s\n", text(root, "degraded_reason"));
    print_replicas(root);
    if (cJSON_IsObject(straggler))
        printf("straggler: %s takes %.1f times as long as the others; cause: %s\n", text(straggler, "address"), number(straggler, "times_the_others"), text(straggler, "cause"));
    printf("messages %.0f, sent %.1f MB, received %.1f MB, repeated %.0f, workers lost %.0f, experts moved %.0f\n", number(root, "messages"), number(root, "bytes_out") * 1e-6, number(root, "bytes_in") * 1e-6,
           number(root, "retries"), number(root, "workers_lost"), number(root, "experts_moved"));
}

static void print_worker(const cJSON *root)
{
    const cJSON *client;
    printf("%s (%s, fingerprint %s), layers %s, experts %s\n", text(root, "model"), text(root, "dtype"), text(root, "fingerprint"), text(root, "layers"), text(root, "experts"));
    printf("memory %.1f MB, batches %.0f of %.2f rows, compute %.1f ms, queued %.1f ms, waiting %.0f, refused %.0f, bad frames %.0f%s\n", number(root, "resident_mb"), number(root, "batches"),
           number(root, "rows_per_batch"), number(root, "compute_ms"), number(root, "queue_ms"), number(root, "waiting"), number(root, "refused"), number(root, "bad_frames"),
           cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(root, "draining")) ? ", draining" : "");
    cJSON_ArrayForEach(client, cJSON_GetObjectItemCaseSensitive(root, "clients"))
        printf("  %-24s %-10s submits %.0f, rows %.0f, in %.1f MB, out %.1f MB, repeated %.0f\n", text(client, "name"), text(client, "role"), number(client, "submits"), number(client, "rows"),
               number(client, "bytes_in") * 1e-6, number(client, "bytes_out") * 1e-6, number(client, "repeated"));
}

static int print_reply(char *reply, bool json, bool changed)
{
    cJSON *root = cJSON_Parse(reply);
    if (json || !root) puts(reply);
    else if (changed) puts("done");
    else if (!strcmp(text(root, "kind"), "workers")) print_crew(root);
    else print_worker(root);
    cJSON_Delete(root);
    td_free(reply);
    return EXIT_DONE;
}

int verb_workers(int argc, char **argv)
{
    const char *of = NULL, *add = NULL, *drain = NULL, *secret = NULL;
    bool json = false;
    const option options[] = {
        {"--of", NULL, OPTION_TEXT, (void *)&of, 0, 0, "HOST:PORT", "a worker, or the --control address of tandem run or tandem serve"},
        {"--add", NULL, OPTION_TEXT, (void *)&add, 0, 0, "HOST:PORT", "let the process at --of use this worker too"},
        {"--drain", NULL, OPTION_TEXT, (void *)&drain, 0, 0, "HOST:PORT", "let it give this worker no new work, and part when all is answered"},
        {"--secret-file", NULL, OPTION_TEXT, (void *)&secret, 0, 0, "FILE", "the shared secret"},
        {"--json", NULL, OPTION_FLAG, &json, 0, 0, NULL, "as JSON"},
        {NULL, NULL, OPTION_FLAG, NULL, 0, 0, NULL, NULL},
    };
    option_set set = {"tandem workers --of HOST:PORT --secret-file FILE [--add HOST:PORT | --drain HOST:PORT] [--json]",
                      "Shows FFN workers: who serves what, load, round trips, stragglers; adds and drains workers while requests run.", options, NULL, 0, 0};
    int count, status = options_parse(&set, argc, argv, &count);
    if (status >= 0) return status;
    if (!of || !secret || (add && drain)) {
        fprintf(stderr, "tandem workers: expected --of HOST:PORT and --secret-file FILE, and at most one of --add and --drain\n");
        return EXIT_USAGE;
    }
    char command[600], *reply;
    if (add || drain) snprintf(command, sizeof command, "%s %.500s", add ? "add" : "drain", add ? add : drain);
    else snprintf(command, sizeof command, "stats");
    if (td_workers_ask(of, secret, command, &reply) < 0) return failed();
    return print_reply(reply, json, add || drain);
}
