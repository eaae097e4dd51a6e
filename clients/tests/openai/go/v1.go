package main

import (
	"context"
	"errors"

	"github.com/openai/openai-go"
	"github.com/openai/openai-go/option"
)

func askV1(ctx context.Context, r request) (result, error) {
	options := []option.RequestOption{option.WithMaxRetries(r.retries()), option.WithRequestTimeout(r.timeout())}
	if r.Conversation != "" {
		options = append(options, option.WithHeader("X-Agento-Conversation", r.Conversation))
	}
	api := openai.NewClient(options...) // reads OPENAI_BASE_URL and OPENAI_API_KEY
	params := openai.ChatCompletionNewParams{Model: r.Model}
	for _, m := range r.Messages {
		message := openai.UserMessage(m.Content)
		if m.Role == "assistant" {
			message = openai.AssistantMessage(m.Content)
		}
		params.Messages = append(params.Messages, message)
	}
	if !r.Stream {
		whole, err := api.Chat.Completions.New(ctx, params)
		if err != nil {
			return result{Status: statusV1(err)}, err
		}
		return result{Text: whole.Choices[0].Message.Content, Finish: string(whole.Choices[0].FinishReason), Tokens: whole.Usage.TotalTokens}, nil
	}
	params.StreamOptions = openai.ChatCompletionStreamOptionsParam{IncludeUsage: openai.Bool(true)}
	stream := api.Chat.Completions.NewStreaming(ctx, params)
	defer func() { _ = stream.Close() }()
	all := openai.ChatCompletionAccumulator{}
	for stream.Next() {
		all.AddChunk(stream.Current())
	}
	if err := stream.Err(); err != nil {
		return result{Status: statusV1(err)}, err
	}
	return result{Text: all.Choices[0].Message.Content, Finish: string(all.Choices[0].FinishReason), Tokens: all.Usage.TotalTokens}, nil
}

// statusV1 returns the status of the response that an error is about; 0 if there was none.
func statusV1(err error) int {
	var failed *openai.Error
	if errors.As(err, &failed) {
		return failed.StatusCode
	}
	return 0
}
