/*
 * answers.h - JSON schemas of what the server answers, for /openapi.json (openapi.c writes ' as "), by path. Objects of the published shapes are closed: a field that is not here is a mistake
 * of the server. tests/serve/schema_test.py holds every answer to requests drawn at random against them, tests/serve/sessions_test.py the recorded sessions, streams included.
 */
#ifndef TD_SERVE_ANSWERS_H
#define TD_SERVE_ANSWERS_H

#include "serve/shapes.h"

#define A_CLOSED(required, properties) "{'type':'object','required':[" required "],'properties':{" properties "},'additionalProperties':false}"
#define A_OPEN(required, properties) "{'type':'object','required':[" required "],'properties':{" properties "}}"
#define A_CONST(text) "{'const':'" text "'}"
#define A_COUNT "{'type':'integer','minimum':0}"
#define A_NUMBER "{'type':'number'}"
#define A_NULL "{'type':'null'}"
#define A_REF(name) "{'$ref':'#/components/schemas/" name "'}"

/* What OpenAI's shapes share. */
#define A_USAGE A_CLOSED("'prompt_tokens','completion_tokens','total_tokens','prompt_tokens_details','completion_tokens_details'", \
    "'prompt_tokens':" A_COUNT ",'completion_tokens':" A_COUNT ",'total_tokens':" A_COUNT ",'prompt_tokens_details':" A_CLOSED("'cached_tokens'", "'cached_tokens':" A_COUNT) \
    ",'completion_tokens_details':" A_CLOSED("'reasoning_tokens'", "'reasoning_tokens':" A_COUNT))
#define A_TIMINGS A_CLOSED("'queue_ms','cache_n','prompt_n','prompt_ms','prompt_per_token_ms','prompt_per_second','predicted_n','predicted_ms','predicted_per_token_ms','predicted_per_second'", \
    "'queue_ms':" A_NUMBER ",'cache_n':" A_COUNT ",'prompt_n':" A_COUNT ",'prompt_ms':" A_NUMBER ",'prompt_per_token_ms':" A_NUMBER ",'prompt_per_second':" A_NUMBER ",'predicted_n':" A_COUNT \
    ",'predicted_ms':" A_NUMBER ",'predicted_per_token_ms':" A_NUMBER ",'predicted_per_second':" A_NUMBER)
#define A_PROGRESS A_CLOSED("'total','cache','processed','time_ms'", "'total':" A_COUNT ",'cache':" A_COUNT ",'processed':" A_COUNT ",'time_ms':" A_NUMBER)
#define A_HEAD_NAMES "'id','object','created','model','system_fingerprint','choices'"
#define A_HEAD(object) "'id':" S_TEXT ",'object':" A_CONST(object) ",'created':" A_COUNT ",'model':" S_TEXT ",'system_fingerprint':" S_TEXT ",'timings':" A_REF("Timings") ",'usage':" S_MAYBE(A_REF("Usage"))
#define A_FINISH "{'enum':['stop','length','tool_calls']}"

/* Chat. */
#define A_LOGPROB "'token':" S_TEXT ",'id':" A_COUNT ",'logprob':" A_NUMBER ",'bytes':" S_MAYBE(S_LIST("{'type':'integer','minimum':0,'maximum':255}"))
#define A_LOGPROB_NAMES "'token','id','logprob','bytes'"
#define A_LOGPROBS S_MAYBE(A_CLOSED("'content','refusal'", "'content':" S_LIST(A_CLOSED(A_LOGPROB_NAMES ",'top_logprobs'", A_LOGPROB ",'top_logprobs':" S_LIST(A_CLOSED(A_LOGPROB_NAMES, A_LOGPROB)))) ",'refusal':" A_NULL))
#define A_TOKENS S_LIST(A_COUNT)
#define A_CALL A_CLOSED("'id','type','function'", "'id':" S_TEXT ",'type':" A_CONST("function") ",'function':" A_CLOSED("'name','arguments'", "'name':" S_TEXT ",'arguments':" S_TEXT))
#define A_CALL_DELTA A_CLOSED("'index','function'", "'index':" A_COUNT ",'id':" S_TEXT ",'type':" A_CONST("function") ",'function':" A_CLOSED("'arguments'", "'name':" S_TEXT ",'arguments':" S_TEXT))
#define A_CHAT_CHOICE A_CLOSED("'index','message','logprobs','finish_reason'", "'index':" A_COUNT ",'message':" \
    A_CLOSED("'role','content','refusal'", "'role':" A_CONST("assistant") ",'content':" S_MAYBE(S_TEXT) ",'refusal':" A_NULL ",'reasoning_content':" S_TEXT ",'tool_calls':" S_LIST(A_CALL)) \
    ",'logprobs':" A_LOGPROBS ",'tokens':" A_TOKENS ",'finish_reason':" A_FINISH ",'warning':" S_TEXT)
#define A_CHAT A_CLOSED(A_HEAD_NAMES ",'usage','timings'", A_HEAD("chat.completion") ",'choices':" S_LIST(A_CHAT_CHOICE))
#define A_CHAT_DELTA A_CLOSED("'index','delta','logprobs','finish_reason'", "'index':" A_COUNT ",'delta':" \
    A_CLOSED("", "'role':" A_CONST("assistant") ",'content':" S_MAYBE(S_TEXT) ",'reasoning_content':" S_TEXT ",'tool_calls':" S_LIST(A_CALL_DELTA)) \
    ",'logprobs':" A_LOGPROBS ",'tokens':" A_TOKENS ",'finish_reason':" S_MAYBE(A_FINISH) ",'warning':" S_TEXT)
#define A_CHAT_CHUNK A_CLOSED(A_HEAD_NAMES, A_HEAD("chat.completion.chunk") ",'prompt_progress':" A_PROGRESS ",'choices':" S_LIST(A_CHAT_DELTA))

/* Text completions: an answer's choices and a chunk's are alike. */
#define A_TEXT_LOGPROBS S_MAYBE(A_CLOSED("'tokens','token_logprobs','top_logprobs','text_offset'", "'tokens':" S_LIST(S_TEXT) ",'token_logprobs':" S_LIST(S_MAYBE(A_NUMBER)) ",'top_logprobs':" \
    S_LIST(S_MAYBE("{'type':'object','additionalProperties':" A_NUMBER "}")) ",'text_offset':" S_LIST(A_COUNT)))
#define A_TEXT_CHOICE A_CLOSED("'text','index','logprobs','finish_reason'", "'text':" S_TEXT ",'index':" A_COUNT ",'logprobs':" A_TEXT_LOGPROBS ",'tokens':" A_TOKENS ",'finish_reason':" S_MAYBE(A_FINISH))
#define A_COMPLETION A_CLOSED(A_HEAD_NAMES ",'usage','timings'", A_HEAD("text_completion") ",'choices':" S_LIST(A_TEXT_CHOICE))
#define A_COMPLETION_CHUNK A_CLOSED(A_HEAD_NAMES, A_HEAD("text_completion") ",'prompt_progress':" A_PROGRESS ",'choices':" S_LIST(A_TEXT_CHOICE))

/* Responses. */
#define A_STATUS "{'enum':['completed','incomplete','in_progress','failed']}"
#define A_OUTPUT_TEXT A_CLOSED("'type','text','annotations','logprobs'", "'type':" A_CONST("output_text") ",'text':" S_TEXT ",'annotations':" S_LIST(S_OBJECT) ",'logprobs':" S_LIST(S_OBJECT))
#define A_OUTPUT "{'anyOf':[" A_CLOSED("'id','type','status','role','content'", "'id':" S_TEXT ",'type':" A_CONST("message") ",'status':" A_STATUS ",'role':" A_CONST("assistant") ",'content':" S_LIST(A_OUTPUT_TEXT)) "," \
    A_OPEN("'id','type','summary'", "'id':" S_TEXT ",'type':" A_CONST("reasoning") ",'summary':" S_LIST(S_OBJECT)) "," \
    A_CLOSED("'id','type','status','call_id','name','arguments'", "'id':" S_TEXT ",'type':" A_CONST("function_call") ",'status':" A_STATUS ",'call_id':" S_TEXT ",'name':" S_TEXT ",'arguments':" S_TEXT) "]}"
#define A_RESPONSE_USAGE A_CLOSED("'input_tokens','input_tokens_details','output_tokens','output_tokens_details','total_tokens'", "'input_tokens':" A_COUNT ",'input_tokens_details':" \
    A_CLOSED("'cached_tokens','cache_write_tokens'", "'cached_tokens':" A_COUNT ",'cache_write_tokens':" A_COUNT) ",'output_tokens':" A_COUNT ",'output_tokens_details':" \
    A_CLOSED("'reasoning_tokens'", "'reasoning_tokens':" A_COUNT) ",'total_tokens':" A_COUNT)
#define A_RESPONSE A_OPEN("'id','object','created_at','status','error','incomplete_details','instructions','model','output','parallel_tool_calls','temperature','top_p','tool_choice','tools','text','metadata','usage'", \
    "'id':" S_TEXT ",'object':" A_CONST("response") ",'created_at':" A_COUNT ",'status':" A_STATUS ",'error':" S_MAYBE(A_OPEN("'code','message'", "'code':" S_TEXT ",'message':" S_TEXT)) \
    ",'incomplete_details':" S_MAYBE(A_CLOSED("'reason'", "'reason':" S_TEXT)) ",'instructions':" S_MAYBE(S_TEXT) ",'max_output_tokens':" S_MAYBE(A_COUNT) ",'model':" S_TEXT ",'output':" S_LIST(A_OUTPUT) \
    ",'parallel_tool_calls':" S_BOOL ",'store':" S_BOOL ",'temperature':" A_NUMBER ",'top_p':" A_NUMBER ",'tools':" S_LIST(S_OBJECT) ",'metadata':" S_OBJECT ",'usage':" S_MAYBE(A_RESPONSE_USAGE))
#define A_RESPONSE_EVENT A_OPEN("'type','sequence_number'", "'type':" S_TEXT ",'sequence_number':" A_COUNT ",'response':" A_REF("Response") ",'output_index':" A_COUNT ",'content_index':" A_COUNT ",'item_id':" S_TEXT \
    ",'delta':" S_TEXT ",'item':" A_OUTPUT)

/* Anthropic's. */
#define A_MESSAGE_USAGE A_CLOSED("'input_tokens','cache_creation_input_tokens','cache_read_input_tokens','output_tokens'", "'input_tokens':" A_COUNT ",'cache_creation_input_tokens':" A_COUNT \
    ",'cache_read_input_tokens':" A_COUNT ",'output_tokens':" A_COUNT)
#define A_BLOCK "{'anyOf':[" A_CLOSED("'type','text'", "'type':" A_CONST("text") ",'text':" S_TEXT) "," A_CLOSED("'type','thinking','signature'", "'type':" A_CONST("thinking") ",'thinking':" S_TEXT ",'signature':" S_TEXT) "," \
    A_CLOSED("'type','id','name','input'", "'type':" A_CONST("tool_use") ",'id':" S_TEXT ",'name':" S_TEXT ",'input':" S_OBJECT) "]}"
#define A_MESSAGE A_OPEN("'id','type','role','model','content','stop_reason','stop_sequence','usage'", "'id':" S_TEXT ",'type':" A_CONST("message") ",'role':" A_CONST("assistant") ",'model':" S_TEXT \
    ",'content':" S_LIST(A_BLOCK) ",'stop_reason':{'enum':['end_turn','max_tokens','stop_sequence','tool_use',null]},'stop_sequence':" S_MAYBE(S_TEXT) ",'usage':" A_MESSAGE_USAGE)
#define A_MESSAGE_EVENT A_OPEN("'type'", "'type':{'enum':['message_start','ping','content_block_start','content_block_delta','content_block_stop','message_delta','message_stop','error']},'message':" A_REF("Message") \
    ",'index':" A_COUNT ",'content_block':" A_BLOCK)

/* The rest. */
#define A_EMBEDDINGS A_CLOSED("'object','data','model','usage'", "'object':" A_CONST("list") ",'data':" S_LIST(A_CLOSED("'object','index','embedding'", "'object':" A_CONST("embedding") ",'index':" A_COUNT \
    ",'embedding':" S_TEXT_OR(S_LIST(A_NUMBER)))) ",'model':" S_TEXT ",'usage':" A_CLOSED("'prompt_tokens','total_tokens'", "'prompt_tokens':" A_COUNT ",'total_tokens':" A_COUNT))
#define A_MODEL A_OPEN("'id','object','created','owned_by','type','display_name','created_at','max_model_len','meta'", "'id':" S_TEXT ",'object':" A_CONST("model") ",'created':" A_COUNT ",'owned_by':" S_TEXT \
    ",'type':" A_CONST("model") ",'display_name':" S_TEXT ",'created_at':" S_TEXT ",'max_model_len':" A_COUNT ",'meta':" S_OBJECT)
#define A_MODELS A_CLOSED("'object','data','has_more','first_id','last_id'", "'object':" A_CONST("list") ",'data':" S_LIST(A_MODEL) ",'has_more':{'const':false},'first_id':" S_TEXT ",'last_id':" S_TEXT)
#define A_HEALTH A_CLOSED("'status'", "'status':{'enum':['ok','degraded']},'reason':" S_TEXT)
#define A_UNHEALTHY A_OPEN("'status','error'", "'status':{'enum':['loading model','stopping']},'what':" S_TEXT ",'progress':" A_NUMBER ",'error':" A_OPEN("'code','message','type'", "'code':{'const':503},'message':" S_TEXT))
#define A_PROPS A_OPEN("'model_alias','chat_template','total_slots','queue_max','n_ctx','has_chat_template','modalities','build_info','default_generation_settings','engine'", "'model_alias':" S_TEXT \
    ",'chat_template':" S_TEXT ",'total_slots':" A_COUNT ",'n_ctx':" A_COUNT ",'has_chat_template':" S_BOOL ",'engine':" S_OBJECT)
#define A_STATE A_OPEN("'time_ms','uptime_s','model','layers','running','waiting','engine','workers','slots'", "'time_ms':" A_NUMBER ",'uptime_s':" A_NUMBER ",'model':" S_TEXT ",'layers':" A_COUNT ",'running':" A_COUNT \
    ",'waiting':" A_COUNT ",'engine':" S_OBJECT ",'slots':" S_LIST(S_OBJECT))
#define A_SLOTS S_LIST(S_OBJECT)
#define A_TOKENIZED A_CLOSED("'tokens'", "'tokens':" S_LIST("{'anyOf':[" A_COUNT "," A_CLOSED("'id','piece'", "'id':" A_COUNT ",'piece':" S_TEXT) "]}"))
#define A_DETOKENIZED A_CLOSED("'content'", "'content':" S_TEXT)
#define A_TEMPLATED A_CLOSED("'prompt'", "'prompt':" S_TEXT)
#define A_COUNTED A_CLOSED("'input_tokens'", "'input_tokens':" A_COUNT)

#define A_ERROR A_CLOSED("'error'", "'error':" A_CLOSED("'message','type','param','code'", "'message':{'type':'string','minLength':1},'type':" S_TEXT ",'param':" S_MAYBE(S_TEXT) ",'code':" S_MAYBE(S_TEXT)))
#define A_ANTHROPIC_ERROR A_CLOSED("'type','error','request_id'", "'type':" A_CONST("error") ",'error':" A_CLOSED("'type','message'", "'type':" S_TEXT ",'message':{'type':'string','minLength':1}") ",'request_id':" S_MAYBE(S_TEXT))

#endif
