/*
 * paper.c - the published numbers of arXiv 2507.19427 (Step-3), each beside what this program computes. Tables 2, 3: bytes and FLOPs; 4, 5: hardware and
 * unit costs; 6: dollars; 7: sparsity bounds; figures 1 to 4; the worked example of section 6 ("S6") and the side remarks of 5.3 and 5.4 ("S5").
 * Values are as printed. A remark marks the few that the paper quotes or rounds inside a sentence; they are shown, not held.
 */
#include "plan/schedule.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const char *const models[] = {"deepseek-v3", "kimi-k2", "qwen3-235b-a22b", "qwen3-32b", "llama4-maverick", "minimax-m1", "ernie-4.5-300b-a47b", "pangu-pro-moe", "step3"};
static const char *const rows[] = {"DSv3", "Kimi K2", "Qwen3 MoE", "Qwen3 32B", "Llama 4 M", "MM M1", "ERNIE 4.5", "Pangu Pro", "Step-3"};
static const char *const cards[] = {"h800", "h20", "a800", "910b"};
static const char *const titles[] = {"H800", "H20", "A800", "910B"};
enum { MODELS = 9, CARDS = 4, DSV3 = 0, QWEN_MOE = 2, QWEN_32B = 3, LLAMA = 4, M1 = 5, PANGU = 7, STEP3 = 8 };

static const double table2[MODELS][4] = { /* KV bytes, core, linear, FFN at 8K */
    {2.88e8, 1.47e11, 2.28e10, 4.84e10}, {2.88e8, 7.37e10, 1.23e10, 4.84e10}, {7.89e8, 2.52e10, 1.34e10, 2.84e10},
    {1.07e9, 1.72e10, 1.21e10, 5.03e10}, {1.01e9, 8.05e9, 6.04e9, 2.42e10},   {9.23e8, 3.42e9, 3.75e10, 5.44e10},
    {9.06e8, 1.45e10, 1.63e10, 7.61e10}, {8.05e8, 8.05e9, 6.04e9, 2.38e10},   {2.56e8, 3.27e10, 2.07e10, 5.33e10}};
static const double table3[MODELS][4] = { /* at 32K */
    {1.15e9, 5.89e11, 2.28e10, 4.84e10}, {1.15e9, 2.95e11, 1.23e10, 4.84e10}, {3.15e9, 1.01e11, 1.34e10, 2.84e10},
    {4.29e9, 6.87e10, 1.21e10, 5.03e10}, {2.21e9, 1.41e10, 6.04e9, 2.42e10},  {1.93e9, 1.15e10, 3.75e10, 5.44e10},
    {3.62e9, 5.80e10, 1.63e10, 7.61e10}, {3.22e9, 3.22e10, 6.04e9, 2.38e10},  {1.02e9, 1.31e11, 2.07e10, 5.33e10}};
static const double table4[CARDS][5] = {{2, 9.89e14, 1.98e15, 3.35e12, 591}, {0.8, 1.48e14, 2.96e14, 4.00e12, 74}, {0.75, 3.12e14, 0, 2.00e12, 156}, {0.67, 2.80e14, 0, 1.60e12, 175}};
static const double table5[CARDS][2] = {{2.80e-19, 1.66e-16}, {7.51e-19, 5.56e-17}, {6.68e-19, 1.04e-16}, {6.65e-19, 1.16e-16}};
static const double table6[MODELS][3][CARDS] = { /* attention 8K, attention 32K, FFN; dollars per million tokens */
    {{.054, .128, .114, .113}, {.197, .460, .409, .407}, {.014, .036, .032, .032}}, {{.051, .065, .057, .057}, {.194, .231, .205, .204}, {.014, .036, .032, .032}},
    {{.135, .054, .091, .101}, {.527, .185, .338, .376}, {.008, .021, .019, .019}}, {{.181, .069, .120, .133}, {.716, .248, .455, .508}, {.014, .038, .034, .033}},
    {{.169, .060, .109, .121}, {.369, .128, .235, .262}, {.007, .018, .016, .016}}, {{.164, .079, .121, .132}, {.330, .135, .226, .249}, {.015, .041, .036, .036}},
    {{.155, .063, .105, .116}, {.606, .214, .388, .432}, {.021, .057, .051, .051}}, {{.135, .049, .088, .098}, {.536, .183, .340, .379}, {.007, .018, .016, .016}},
    {{.048, .040, .040, .043}, {.176, .114, .120, .133}, {.015, .040, .036, .035}}};
static const double table7[CARDS] = {0.058, 0.007, 0.031, 0.034};
static const double activated[MODELS] = {37, 32, 22, 32, 17, 46, 47, 16.5, 38}; /* Table 6's caption; Kimi K2, Qwen3 32B and Llama 4 M read off Figure 1 */

typedef struct {
    plan_paper_value *values;
    size_t count, capacity;
    plan_model model[MODELS];
    plan_hardware card[CARDS];
    plan_token token[MODELS][2]; /* 8K, 32K */
} book;

static void put(book *b, const char *table, const char *row, const char *column, double computed, double printed, int digits, const char *remark)
{
    if (b->count < b->capacity) b->values[b->count] = (plan_paper_value){table, row, column, computed, printed, digits, remark};
    b->count++;
}

bool plan_paper_agrees(const plan_paper_value *value)
{
    char computed[64], printed[64];
    if (value->digits < 0) {
        snprintf(computed, sizeof computed, "%.*f", -value->digits, value->computed);
        snprintf(printed, sizeof printed, "%.*f", -value->digits, value->printed);
    } else {
        snprintf(computed, sizeof computed, "%.*e", value->digits - 1, value->computed);
        snprintf(printed, sizeof printed, "%.*e", value->digits - 1, value->printed);
    }
    return !strcmp(computed, printed);
}

static void tables_2_to_5(book *b)
{
    static const char *const columns[] = {"KV bytes", "attention FLOPs", "linear FLOPs", "FFN FLOPs"};
    static const char *const specs[] = {"USD/h", "BF16 FLOP/s", "FP8 FLOP/s", "bandwidth B/s", "roofline"};
    for (int c = 0; c < 2; c++)
        for (int m = 0; m < MODELS; m++) {
            const plan_token *t = &b->token[m][c];
            double values[] = {t->kv_bytes, t->core_flops, t->linear_flops, t->ffn_flops};
            for (int i = 0; i < 4; i++) put(b, c ? "3" : "2", rows[m], columns[i], values[i], c ? table3[m][i] : table2[m][i], 3, NULL);
        }
    for (int h = 0; h < CARDS; h++) {
        const plan_hardware *w = &b->card[h];
        double specs_[] = {w->usd_hour, w->bf16, w->fp8, w->bandwidth, plan_flop_rate(w, false) / w->bandwidth};
        for (int i = 0; i < 5; i++)
            if (table4[h][i] > 0) put(b, "4", titles[h], specs[i], specs_[i], table4[h][i], i == 0 ? -2 : i == 4 ? -0 : 3, NULL);
        b->values[TD_MIN(b->count, b->capacity) - 1].digits = h == 1 ? 2 : 3; /* roofline: 591, 74, 156, 175 */
        put(b, "5", titles[h], "USD per FLOP", w->usd_hour / 3600 / plan_flop_rate(w, false), table5[h][0], 3, h ? NULL : "2 / 3600 / 1.98e15 is 2.806e-19: the paper cuts it off instead of rounding");
        put(b, "5", titles[h], "USD per byte", w->usd_hour / 3600 / w->bandwidth, table5[h][1], 3, NULL);
    }
}

/* The paper's figures add entries of Table 6 as printed, that is rounded to three decimals. */
static double as_printed(double usd) { return nearbyint(1000 * usd) / 1000; }

static double on_card(const book *b, int m, int context, int h)
{
    return as_printed(plan_attention_usd(&b->token[m][context], &PLAN_FP8, &b->card[h])) + as_printed(plan_ffn_usd(&b->token[m][context], &PLAN_FP8, &b->card[h]));
}

static double best_afd(const book *b, int m, int context)
{
    double attention = INFINITY, ffn = INFINITY;
    for (int h = 0; h < CARDS; h++) {
        attention = fmin(attention, plan_attention_usd(&b->token[m][context], &PLAN_FP8, &b->card[h]));
        ffn = fmin(ffn, plan_ffn_usd(&b->token[m][context], &PLAN_FP8, &b->card[h]));
    }
    return as_printed(attention) + as_printed(ffn);
}

static double printed_afd(int m, int context)
{
    double attention = INFINITY, ffn = INFINITY;
    for (int h = 0; h < CARDS; h++) attention = fmin(attention, table6[m][context][h]), ffn = fmin(ffn, table6[m][2][h]);
    return attention + ffn;
}

static void table_6(book *b)
{
    static const char *const columns[3][CARDS] = {{"attention 8K H800", "attention 8K H20", "attention 8K A800", "attention 8K 910B"},
                                                  {"attention 32K H800", "attention 32K H20", "attention 32K A800", "attention 32K 910B"},
                                                  {"FFN H800", "FFN H20", "FFN A800", "FFN 910B"}};
    for (int m = 0; m < MODELS; m++)
        for (int part = 0; part < 3; part++)
            for (int h = 0; h < CARDS; h++) {
                const plan_token *t = &b->token[m][part == 1];
                double usd = part < 2 ? plan_attention_usd(t, &PLAN_FP8, &b->card[h]) : plan_ffn_usd(t, &PLAN_FP8, &b->card[h]);
                put(b, "6", rows[m], columns[part][h], usd, table6[m][part][h], -3, NULL);
            }
}

/* Sparsest MoE that still reaches the compute roof while the network stays within a third of 50 ms (5.4): H L FLOPs / (Net bandwidth 11.1 ms). */
static double sparsity_bound(const plan_hardware *w, double nic_share) { return 7168 * 61 * plan_flop_rate(w, false) / (8 * w->nic * nic_share * w->bandwidth * 11.1e-3); }

static void table_7_and_section_5(book *b)
{
    for (int h = 0; h < CARDS; h++) put(b, "7", titles[h], "minimum sparsity", sparsity_bound(&b->card[h], 1), table7[h], -3, NULL);
    put(b, "S5", "H800 at 40 GB/s a NIC", "minimum sparsity", sparsity_bound(&b->card[0], 0.8), 0.073, -3, NULL);
    put(b, "S5", "Step-3", "sparsity", 4.0 / 49, 0.08, -2, NULL);
    put(b, "S5", "DSv3 on H800", "activated experts needed", floor(257 * 0.058 - 1 + 0.5), 14, -0, "257 x 0.058 = 14.9, less the shared expert");
    static const int intensity_of[] = {DSV3, QWEN_MOE, STEP3};
    static const double intensity[] = {512, 32, 128};
    for (int i = 0; i < 3; i++) put(b, "S5", rows[intensity_of[i]], "arithmetic intensity", b->token[intensity_of[i]][0].core_flops / b->token[intensity_of[i]][0].kv_bytes, intensity[i], i == 1 ? 2 : 3, NULL);
    put(b, "S5", "DSv3 / Step-3", "effective rank", 128.0 * b->model[DSV3].attention[0].heads, 16384, 5, NULL);
    put(b, "S5", "Step-3", "effective rank", (double)b->model[STEP3].attention[0].heads * b->model[STEP3].attention[0].head_dim, 16384, 5, NULL);
    put(b, "S5", "Qwen3 MoE", "effective rank", (double)b->model[QWEN_MOE].attention[0].heads * b->model[QWEN_MOE].attention[0].head_dim, 8192, 4, NULL);
}

static void figures(book *b)
{
    static const char *const columns2[2][CARDS] = {{"8K H800", "8K H20", "8K A800", "8K 910B"}, {"32K H800", "32K H20", "32K A800", "32K 910B"}};
    static const int shown[] = {DSV3, QWEN_MOE, QWEN_32B, STEP3};
    for (int m = 0; m < MODELS; m++) {
        put(b, "F1", rows[m], "activated B parameters", plan_active_parameters(&b->model[m]) / 1e9, activated[m], 2, "quoted from each model's card, which count embeddings differently");
        put(b, "F1", rows[m], "AFD USD/1M 8K", best_afd(b, m, 0), printed_afd(m, 0), -3, NULL);
    }
    for (int i = 0; i < 4; i++)
        for (int c = 0; c < 2; c++) {
            int m = shown[i];
            for (int h = 0; h < CARDS; h++) put(b, "F2", rows[m], columns2[c][h], on_card(b, m, c, h), table6[m][c][h] + table6[m][2][h], -3, NULL);
            put(b, "F2", rows[m], c ? "32K AFD" : "8K AFD", best_afd(b, m, c), printed_afd(m, c), -3, NULL);
        }
    static const int hybrids[] = {STEP3, M1, LLAMA};
    static const double gigabytes[] = {4.09, 5.96, 7.05}, axis[] = {0.7, 1.0, 1.1};
    for (int i = 0; i < 3; i++) {
        plan_token t = plan_token_cost(&b->model[hybrids[i]], &PLAN_FP8, 131072, true);
        put(b, "F3", rows[hybrids[i]], "128K KV GB", t.kv_bytes / 1e9, gigabytes[i], 3, NULL);
        put(b, "F3", rows[hybrids[i]], "128K H800 USD/1M", plan_attention_usd(&t, &PLAN_FP8, &b->card[0]) + plan_ffn_usd(&t, &PLAN_FP8, &b->card[0]), axis[i], -1, "read off the axis of a chart");
    }
    static const int pair[] = {PANGU, STEP3};
    static const double decode8[] = {.114, .078}, decode32[] = {.395, .168}, training[] = {.076, .213};
    for (int i = 0; i < 2; i++) {
        const plan_hardware *w = &b->card[3];
        const plan_token *t = b->token[pair[i]];
        put(b, "F4", rows[pair[i]], "decoding 8K", on_card(b, pair[i], 0, 3), decode8[i], -3, NULL);
        put(b, "F4", rows[pair[i]], "decoding 32K", on_card(b, pair[i], 1, 3), decode32[i], -3, NULL);
        put(b, "F4", rows[pair[i]], "training", 1e6 * 3 * (t[0].core_flops + t[0].linear_flops + t[0].ffn_flops) * w->usd_hour / 3600 / w->bf16, training[i], -3, NULL);
    }
}

/* Section 6: what a weak card can do in the 272 us of a layer. */
static void section_6(book *b)
{
    const double layer = 16.6e-3 / 61, l20 = 864e9, l4 = 300e9;
    const plan_model *m = &b->model[STEP3];
    double o_proj = (double)m->attention[0].heads * m->attention[0].head_dim * m->hidden, rest = m->attention[0].parameters - o_proj;
    double linear = rest + o_proj / 8, budget = l20 * 272e-6, kv = 235e6 - 67e6;
    put(b, "S6", "stage", "us per layer", layer * 1e6, 272, 3, NULL);
    put(b, "S6", "L20 attention", "MB per layer", budget / 1e6, 235, 3, NULL);
    put(b, "S6", "L20 attention", "linear MB", linear / 1e6, 67, 2, NULL);
    put(b, "S6", "L20 attention", "KV MB", kv / 1e6, 168, 3, NULL);
    put(b, "S6", "L20 attention", "K tokens", kv / 512 / 1e3, 328, 3, NULL);
    put(b, "S6", "L20 attention", "batch at 8K", ceil(kv / 512 / 8000), 41, 2, "the paper says 'below 41': 328 K / 8 K = 41.0");
    put(b, "S6", "L20 FFN", "MB per layer", l20 * 0.5 * 272e-6 / 1e6, 117, 3, "117.5 truncated to 117");
    put(b, "S6", "L20 FFN", "GB for 61 layers", 117e6 * 61 / 1e9, 7.1, 2, NULL);
    put(b, "S6", "L20 FFN", "GB per server", 7.1 * 8, 56.8, 3, NULL);
    put(b, "S6", "Step-3 FFN", "GB in FP8", plan_ffn_parameters(m) / 1e9, 300, 1, NULL);
    put(b, "S6", "L20 FFN", "servers", ceil(plan_ffn_parameters(m) / 56.8e9), 6, 1, NULL);
    put(b, "S6", "L20 FFN", "cards", 8 * ceil(plan_ffn_parameters(m) / 56.8e9), 48, 2, NULL);
    put(b, "S6", "L4 FFN", "cards", 3 * 8 * ceil(plan_ffn_parameters(m) / 56.8e9), 144, 3, NULL);
    put(b, "S6", "L4 attention", "share of 272 us for 67 MB", 67e6 / (l4 * 272e-6), 0.8, -1, "the paper says 'most of'");
}

/* Table 8 is measured, not computed: what the schedule predicts for it. */
static td_status table_8(book *b)
{
    plan_table8_row rows8[PLAN_TABLE8_ROWS];
    TD_TRY(plan_table8(&PLAN_MEASURED, rows8));
    for (int i = 0; i < PLAN_TABLE8_ROWS; i++) put(b, "8", rows8[i].row, "tokens/s a GPU", rows8[i].predicted, rows8[i].measured, 4, rows8[i].fitted ? "measured; this row was fitted" : "measured; predicted from the fitted rows");
    return TD_OK;
}

td_status plan_paper_values(plan_paper_value *out, size_t capacity, size_t *count)
{
    book b = {.values = out, .capacity = capacity};
    plan_hardware_table table;
    TD_TRY(plan_hardware_load(NULL, &table));
    td_status status = TD_OK;
    for (int h = 0; h < CARDS && status == TD_OK; h++) {
        const plan_hardware *w;
        status = plan_hardware_find(&table, cards[h], &w);
        if (status == TD_OK) b.card[h] = *w;
    }
    plan_hardware_free(&table);
    for (int m = 0; m < MODELS && status == TD_OK; m++) {
        status = plan_model_find(models[m], &b.model[m]);
        for (int c = 0; c < 2 && status == TD_OK; c++) b.token[m][c] = plan_token_cost(&b.model[m], &PLAN_FP8, c ? 32768 : 8192, true);
    }
    if (status < 0) return status;
    tables_2_to_5(&b);
    table_6(&b);
    table_7_and_section_5(&b);
    figures(&b);
    section_6(&b);
    TD_TRY(table_8(&b));
    *count = TD_MIN(b.count, capacity);
    return b.count <= capacity ? TD_OK : td_fail(TD_E_INTERNAL, "the paper's tables hold %zu values, expected at most %zu", b.count, capacity);
}

static void number(td_buffer *out, double value, int digits)
{
    if (digits < 0) td_buffer_format(out, "%12.*f", -digits, value);
    else if (value >= 1e6 || value < 1e-3) td_buffer_format(out, "%12.*e", digits - 1, value);
    else td_buffer_format(out, "%12.5g", value);
}

td_status plan_paper_report(const char *format, td_buffer *out)
{
    static plan_paper_value values[PLAN_PAPER_MAX];
    size_t count, held = 0, wrong = 0, worst = 0;
    TD_TRY(plan_paper_values(values, PLAN_PAPER_MAX, &count));
    bool json = !strcmp(format, "json"), csv = !strcmp(format, "csv");
    const char *table = "";
    td_buffer_text(out, json ? "[\n" : csv ? "table,row,column,computed,printed,agrees,remark\n" : "");
    for (size_t i = 0; i < count; i++) {
        const plan_paper_value *v = &values[i];
        bool agrees = plan_paper_agrees(v);
        if (!v->remark) {
            held++;
            wrong += !agrees;
            if (fabs(v->computed / v->printed - 1) > fabs(values[worst].computed / values[worst].printed - 1) || values[worst].remark) worst = i;
        }
        if (json)
            td_buffer_format(out, "%s{\"table\":\"%s\",\"row\":\"%s\",\"column\":\"%s\",\"computed\":%.10g,\"printed\":%.10g,\"agrees\":%s%s%s%s}", i ? ",\n" : "", v->table, v->row, v->column, v->computed,
                             v->printed, agrees ? "true" : "false", v->remark ? ",\"remark\":\"" : "", v->remark ? v->remark : "", v->remark ? "\"" : "");
        else if (csv) td_buffer_format(out, "%s,%s,%s,%.10g,%.10g,%s,\"%s\"\n", v->table, v->row, v->column, v->computed, v->printed, agrees ? "yes" : "no", v->remark ? v->remark : "");
        else {
            if (strcmp(table, v->table)) td_buffer_format(out, "%s%s %s%-40s %12s %12s\n", i ? "\n" : "", v->table[0] == 'F' ? "Figure" : v->table[0] == 'S' ? "Section" : "Table", v->table + (v->table[0] > '9'), "", "computed", "printed");
            td_buffer_format(out, "  %-22s %-25s", v->row, v->column);
            number(out, v->computed, v->digits);
            number(out, v->printed, v->digits);
            td_buffer_format(out, "  %s%s%s%s\n", agrees ? "same" : v->table[0] == '8' ? "" : "DIFFERS", v->remark ? " (" : "", v->remark ? v->remark : "", v->remark ? ")" : "");
        }
        table = v->table;
    }
    if (json) td_buffer_text(out, "\n]\n");
    else if (!csv)
        td_buffer_format(out, "\nFactors behind Table 8: fitted on three rows, FFN stage %.1f us and %.0f %% of dispatch and combine not hidden; not fitted: attention kernels' shares and %.0f us a stage (Table 9), wire %.0f %% (5.4), linear, FFN and NVLink at %.0f %%.\n%zu values; %zu held to every printed digit, %zu differ. Largest deviation: %s %s, %s: %.5g against %.5g printed (%.2f %%, within its rounding).\n", 1e6 * PLAN_MEASURED.ffn_stage_s, 100 * PLAN_MEASURED.wire_exposed, 1e6 * PLAN_MEASURED.attention_stage_s, 100 * PLAN_MEASURED.wire, 100 * PLAN_MEASURED.ffn, count, held, wrong,
                         values[worst].table[0] > '9' ? "figure or section" : "table", values[worst].table, values[worst].row, values[worst].computed, values[worst].printed,
                         100 * fabs(values[worst].computed / values[worst].printed - 1));
    return td_buffer_status(out);
}
