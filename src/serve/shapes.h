/*
 * shapes.h - JSON schemas of fields that are more than a type and a range, for /openapi.json (openapi.c writes ' as "). They describe what tables.c, prompts.c, messages.c and responses.c
 * accept; tests/serve/schema_test.py draws requests from them: what fits must be accepted, what does not must be refused. A member that is null counts as absent, also one that is not known.
 */
#ifndef TD_SERVE_SHAPES_H
#define TD_SERVE_SHAPES_H

#define S_MAYBE(schema) "{'anyOf':[" schema ",{'type':'null'}]}"
#define S_TEXT "{'type':'string'}"
#define S_BOOL "{'type':'boolean'}"
#define S_ANY "{}"
#define S_OBJECT "{'type':'object'}"
#define S_NAME "{'type':'string','minLength':1,'maxLength':128}"
#define S_LIST(items) "{'type':'array','items':" items "}"
#define S_TEXT_OR(other) "{'anyOf':[" S_TEXT "," other "]}"
#define S_MEMBERS(required, properties) "{'type':'object','required':[" required "],'properties':{" properties "},'additionalProperties':{'type':'null'}}"
#define S_NOTHING "{'anyOf':[{'type':'null'},{'type':'array','maxItems':0}]}"

#define S_EFFORT "{'enum':['none','minimal','low','medium','high','xhigh','max']}"
#define S_STOP_TEXT "{'type':'string','minLength':1,'maxLength':256}"
#define S_STOPS "{'type':'array','maxItems':16,'items':" S_STOP_TEXT "}"
#define S_STOP "{'anyOf':[" S_STOP_TEXT "," S_STOPS "]}"
#define S_BIAS "{'type':'object','maxProperties':4096,'propertyNames':{'pattern':'^[0-9]{1,9}$'},'additionalProperties':{'type':'number','minimum':-100,'maximum':100}}"
#define S_STREAM_OPTIONS S_MEMBERS("", "'include_usage':" S_MAYBE(S_BOOL) ",'include_obfuscation':{'enum':[false,null]}")
#define S_METADATA "{'type':'object','maxProperties':16,'propertyNames':{'maxLength':64},'additionalProperties':{'type':'string','maxLength':512}}"
#define S_USER_METADATA S_MEMBERS("", "'user_id':" S_MAYBE(S_TEXT))
#define S_TOKEN "{'type':'integer','minimum':0,'maximum':2147483647}"
#define S_TOKENS "{'type':'array','minItems':1,'items':" S_TOKEN "}"
#define S_PROMPTS(text) "{'anyOf':[" text "," S_TOKENS ",{'type':'array','minItems':1,'maxItems':64,'items':{'anyOf':[" text "," S_TOKENS "]}}]}"
#define S_PROMPT S_PROMPTS(S_TEXT)
#define S_INPUT_TEXT S_PROMPTS("{'type':'string','minLength':1}")

#define S_SCHEMA_MEMBERS "'name':" S_MAYBE(S_TEXT) ",'schema':" S_OBJECT ",'strict':" S_MAYBE(S_BOOL) ",'description':" S_MAYBE(S_TEXT)
#define S_FORMAT "{'anyOf':[" S_MEMBERS("'type'", "'type':{'const':'text'}") "," S_MEMBERS("'type','grammar'", "'type':{'const':'grammar'},'grammar':" S_TEXT) "," \
    S_MEMBERS("'type','regex'", "'type':{'const':'regex'},'regex':" S_TEXT) "," S_MEMBERS("'type'", "'type':{'const':'json_object'},'schema':" S_MAYBE(S_OBJECT)) "," \
    S_MEMBERS("'type','json_schema'", "'type':{'const':'json_schema'},'json_schema':" S_MEMBERS("'schema'", S_SCHEMA_MEMBERS)) "," \
    S_MEMBERS("'type','schema'", "'type':{'const':'json_schema'}," S_SCHEMA_MEMBERS) "]}"

/* Chat's messages and tools. */
#define S_PART S_MEMBERS("'type','text'", "'type':{'enum':['text','input_text','output_text']},'text':" S_TEXT)
#define S_CONTENT S_TEXT_OR(S_LIST(S_PART))
#define S_REFUSAL S_MEMBERS("'type','refusal'", "'type':{'const':'refusal'},'refusal':" S_TEXT)
#define S_ANSWER_CONTENT S_TEXT_OR(S_LIST("{'anyOf':[" S_PART "," S_REFUSAL "]}"))
#define S_CALL S_MEMBERS("'function'", "'id':" S_MAYBE(S_TEXT) ",'type':{'enum':['function',null]},'index':" S_MAYBE("{'type':'number'}") ",'function':" S_MEMBERS("'name','arguments'", "'name':" S_TEXT ",'arguments':" S_TEXT ",'parsed_arguments':{}"))
#define S_MESSAGE_MEMBERS "'name':" S_MAYBE(S_TEXT) ",'tool_call_id':" S_MAYBE(S_TEXT) ",'reasoning_content':" S_MAYBE(S_TEXT) ",'reasoning':" S_MAYBE(S_TEXT) ",'tool_calls':" S_MAYBE(S_LIST(S_CALL)) \
    ",'refusal':" S_NOTHING ",'annotations':" S_NOTHING ",'audio':" S_NOTHING ",'function_call':" S_NOTHING ",'parsed':{}"
#define S_MESSAGE "{'anyOf':[" S_MEMBERS("'role','content'", "'role':{'enum':['system','developer','user','tool','tool_description']},'content':" S_CONTENT "," S_MESSAGE_MEMBERS) "," \
    S_MEMBERS("'role'", "'role':{'const':'assistant'},'content':" S_MAYBE(S_ANSWER_CONTENT) "," S_MESSAGE_MEMBERS) "]}"
#define S_MESSAGES "{'type':'array','minItems':1,'maxItems':65536,'items':" S_MESSAGE "}"
#define S_FUNCTION_MEMBERS "'name':" S_NAME ",'description':" S_MAYBE(S_TEXT) ",'parameters':" S_MAYBE(S_OBJECT) ",'strict':" S_MAYBE(S_BOOL)
#define S_TOOLS "{'type':'array','maxItems':128,'items':" S_MEMBERS("'type','function'", "'type':{'const':'function'},'function':" S_MEMBERS("'name'", S_FUNCTION_MEMBERS)) "}"
#define S_CHOICE_WORD "{'enum':['none','auto','required']}"
#define S_CHOICE "{'anyOf':[" S_CHOICE_WORD "," S_MEMBERS("'type','function'", "'type':{'const':'function'},'function':" S_MEMBERS("'name'", "'name':" S_TEXT)) "]}"

/* Anthropic's. */
#define S_TEXT_BLOCK S_MEMBERS("'type','text'", "'type':{'const':'text'},'text':" S_TEXT ",'cache_control':{},'citations':{}")
#define S_BLOCKS S_TEXT_OR(S_LIST(S_TEXT_BLOCK))
#define S_RESULT_BLOCK S_MEMBERS("'type','tool_use_id'", "'type':{'const':'tool_result'},'tool_use_id':" S_TEXT ",'content':" S_MAYBE(S_BLOCKS) ",'is_error':" S_MAYBE(S_BOOL) ",'cache_control':{}")
#define S_THINKING_BLOCK S_MEMBERS("'type','thinking'", "'type':{'const':'thinking'},'thinking':" S_TEXT ",'signature':{},'cache_control':{}")
#define S_USE_BLOCK S_MEMBERS("'type','id','name','input'", "'type':{'const':'tool_use'},'id':" S_TEXT ",'name':" S_TEXT ",'input':" S_OBJECT ",'cache_control':{},'caller':{}")
#define S_TURNS "{'type':'array','minItems':1,'maxItems':65536,'items':{'anyOf':[" \
    S_MEMBERS("'role','content'", "'role':{'const':'user'},'content':" S_TEXT_OR(S_LIST("{'anyOf':[" S_TEXT_BLOCK "," S_RESULT_BLOCK "]}"))) "," \
    S_MEMBERS("'role','content'", "'role':{'const':'assistant'},'content':" S_TEXT_OR(S_LIST("{'anyOf':[" S_TEXT_BLOCK "," S_THINKING_BLOCK "," S_USE_BLOCK "]}"))) "]}}"
#define S_NAMED_TOOLS "{'type':'array','maxItems':128,'items':" S_MEMBERS("'name','input_schema'", "'name':" S_NAME ",'description':" S_MAYBE(S_TEXT) ",'input_schema':" S_OBJECT \
    ",'type':{'enum':['custom',null]},'strict':" S_MAYBE(S_BOOL) ",'cache_control':{},'eager_input_streaming':" S_MAYBE(S_BOOL) ",'input_examples':" S_MAYBE("{'type':'array'}")) "}"
#define S_NAMED_CHOICE "{'anyOf':[" S_MEMBERS("'type'", "'type':{'enum':['auto','any','none']},'disable_parallel_tool_use':" S_MAYBE(S_BOOL)) "," \
    S_MEMBERS("'type','name'", "'type':{'const':'tool'},'name':" S_TEXT ",'disable_parallel_tool_use':" S_MAYBE(S_BOOL)) "]}"
#define S_THINKING S_MEMBERS("'type'", "'type':{'enum':['enabled','disabled','adaptive']},'budget_tokens':" S_MAYBE("{'type':'integer','minimum':1,'maximum':2147483647}") ",'display':{'enum':['summarized','omitted',null]}")
#define S_OUTPUT_CONFIG S_MEMBERS("", "'effort':" S_MAYBE(S_EFFORT) ",'format':" S_MAYBE(S_MEMBERS("'type','schema'", "'type':{'const':'json_schema'},'schema':" S_OBJECT)))

/* Responses'. */
#define S_ITEM_PART S_MEMBERS("'type','text'", "'type':{'enum':['input_text','output_text','reasoning_text','summary_text']},'text':" S_TEXT ",'annotations':{},'logprobs':{},'parsed':{}")
#define S_ITEM_TEXT S_TEXT_OR(S_LIST(S_ITEM_PART))
#define S_ITEM_TURN(role, content) S_MEMBERS("'role','content'", "'type':{'enum':['message',null]},'role':" role ",'content':" content ",'id':{},'status':{},'phase':{}")
#define S_ITEM_MESSAGE S_ITEM_TURN("{'enum':['user','system','developer']}", S_ITEM_TEXT) "," S_ITEM_TURN("{'const':'assistant'}", S_TEXT_OR(S_LIST("{'anyOf':[" S_ITEM_PART "," S_REFUSAL "]}")))
#define S_ITEM_CALL S_MEMBERS("'type','call_id','name','arguments'", "'type':{'const':'function_call'},'call_id':" S_TEXT ",'name':" S_TEXT ",'arguments':" S_TEXT ",'id':{},'status':{},'parsed_arguments':{}")
#define S_ITEM_OUTPUT S_MEMBERS("'type','call_id','output'", "'type':{'const':'function_call_output'},'call_id':" S_TEXT ",'output':" S_ITEM_TEXT ",'id':{},'status':{}")
#define S_ITEM_REASONING S_MEMBERS("'type','summary'", "'type':{'const':'reasoning'},'summary':" S_ITEM_TEXT ",'content':" S_MAYBE(S_ITEM_TEXT) ",'id':{},'status':{}")
#define S_ITEMS S_TEXT_OR("{'type':'array','minItems':1,'maxItems':65536,'items':{'anyOf':[" S_ITEM_MESSAGE "," S_ITEM_CALL "," S_ITEM_OUTPUT "," S_ITEM_REASONING "]}}")
#define S_FLAT_TOOLS "{'type':'array','maxItems':128,'items':" S_MEMBERS("'type','name'", "'type':{'const':'function'}," S_FUNCTION_MEMBERS) "}"
#define S_FLAT_CHOICE "{'anyOf':[" S_CHOICE_WORD "," S_MEMBERS("'type','name'", "'type':{'const':'function'},'name':" S_TEXT) "]}"
#define S_REASONING S_MEMBERS("", "'effort':" S_MAYBE(S_EFFORT) ",'summary':{'enum':['auto',null]},'generate_summary':{'enum':['auto',null]}")
#define S_TEXT_FORMAT S_MEMBERS("", "'format':" S_MAYBE(S_FORMAT) ",'verbosity':{'enum':['medium',null]}")

#endif
